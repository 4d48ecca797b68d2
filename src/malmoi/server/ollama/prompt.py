"""What Ollama's clients ask, as what a model is asked: prompts, thinking, sampling, and how long a model is to stay.

    OllamaChatBody, OllamaGenerateBody -> CHAT PROMPT, GENERATE PROMPT, WISH OF, PARAMS OF

Place in the flow: `answers.py` reads its bodies with it. Read next: `malmoi/llm/prompt.py`.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from malmoi.engine import SamplingParams
from malmoi.llm.prompt import ChatPrompt, Infill, Prompt
from malmoi.server.errors import ServerError
from malmoi.server.ollama.bodies import (
    AnswerBody,
    OllamaChatBody,
    OllamaGenerateBody,
    OllamaMessage,
)
from malmoi.server.sampling import likelihoods
from malmoi.server.thinking import Wish
from malmoi.server.tools import functions, with_tools

_NAMES = {"num_predict": "max_tokens", "repeat_penalty": "repetition_penalty"}
"""Options that are called otherwise in `SamplingParams`."""
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def chat_prompt(body: OllamaChatBody) -> ChatPrompt | None:
    """The conversation; None if there is none."""
    if not body.messages:
        return None
    prompt = ChatPrompt(
        messages=list(map(_message, body.messages)), is_continued=body.messages[-1].role == "assistant"
    )
    return with_tools(prompt, functions(body.tools))


def generate_prompt(body: OllamaGenerateBody) -> Prompt | None:
    """A question, a text to go on from, or a gap; None for nothing. Raises ServerError for more than one of them."""
    alone = "raw" if body.raw else "suffix" if body.suffix is not None else None
    is_more = body.system is not None or bool(body.images or body.think)
    if alone and (is_more or (body.raw and body.suffix is not None)):
        raise ServerError(
            f"with {alone} the prompt is read as it is. Leave out system, images, think, and one of raw and suffix.",
            param=alone,
        )
    if body.suffix is not None:
        return Infill(before=body.prompt, after=body.suffix)
    if body.raw:
        return body.prompt or None
    if not body.prompt and not body.images:
        return None
    told = [] if body.system is None else [{"role": "system", "content": body.system}]
    return ChatPrompt(messages=[*told, {"role": "user", "content": _content(body.prompt, body.images)}])


def wish_of(body: AnswerBody) -> Wish | None:
    """What the body says of thinking."""
    match body.think:
        case None:
            return None
        case bool(thinks):
            return Wish(param="think", thinks=thinks)
        case effort:
            return Wish.of_effort(effort, param="think")


def params_of(body: AnswerBody, defaults: SamplingParams) -> SamplingParams:
    """What the body asks for, on top of `defaults`. Raises RequestError for a value out of its range.

    And ServerError for likelihoods beside none.

    >>> options = {"num_predict": 5, "repeat_penalty": 1.1}
    >>> body = OllamaChatBody.model_validate({"model": "default", "options": options})
    >>> params = params_of(body, SamplingParams())
    >>> params.max_tokens, params.repetition_penalty
    (5, 1.1)
    """
    options = body.options.model_dump(exclude_unset=True)
    if options.get("num_predict") == -1:
        options["num_predict"] = None
    if isinstance(stop := options.get("stop"), list):
        options["stop"] = tuple(stop)
    given = {_NAMES.get(name, name): value for name, value in options.items()}
    given |= likelihoods(body.top_logprobs, is_asked=body.logprobs)
    if body.format is not None:
        given["json_schema"] = {"type": "object"} if body.format == "json" else body.format
    return replace(defaults, **given)


def seconds_of(keep_alive: float | str) -> float:
    """How long a model is to stay. Raises ServerError for what is no time.

    >>> seconds_of("1h30m"), seconds_of(20), seconds_of("-1")
    (5400.0, 20.0, inf)
    """
    try:
        seconds = float(keep_alive)
    except ValueError:
        units = "|".join(_SECONDS)
        if not re.fullmatch(rf"-?((\d+(\.\d*)?|\.\d+)({units}))+", str(keep_alive), re.ASCII):
            raise ServerError(
                f"keep_alive={keep_alive!r:.40} is no time. Give seconds, or a text such as 5m or 1h30m; -1: for ever.",
                param="keep_alive",
            ) from None
        parts = re.findall(rf"([\d.]+)({units})", str(keep_alive), re.ASCII)
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
        seconds = -seconds if str(keep_alive).startswith("-") else seconds
    if math.isnan(seconds):
        raise ServerError("keep_alive is not a number. Give seconds.", param="keep_alive")
    return math.inf if seconds < 0 else seconds


def _message(said: OllamaMessage) -> dict[str, Any]:
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {
                "name": call.function.name,
                "arguments": json.dumps(call.function.arguments, ensure_ascii=False),
            },
        }
        for call in said.tool_calls
    ]
    more = {
        "reasoning_content": said.thinking,
        "tool_calls": calls,
        "name": said.tool_name,
        "tool_call_id": said.tool_call_id,
    }
    content = _content(said.content, said.images)
    return {"role": said.role, "content": content, **{key: value for key, value in more.items() if value}}


def _content(text: str, images: Sequence[str]) -> str | list[dict[str, str]]:
    if not images:
        return text
    return [
        *({"type": "image", "image": f"data:;base64,{image}"} for image in images),
        {"type": "text", "text": text},
    ]
