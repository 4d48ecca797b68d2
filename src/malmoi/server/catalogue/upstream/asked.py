"""A prompt and its parameters in OpenAI's words: the body of a request to another machine.

    Prompt, SamplingParams -> ASKED -> client.py

What these words cannot say is `Asked.extras`, sent only where it is known to be understood: nothing is left out in
silence. Place in the flow: `upstream.py` asks so. Read next:
`asked_chat.py`, conversations; `events.py`, what comes back.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from malmoi.engine import SamplingParams
from malmoi.llm.prompt import ChatPrompt, Infill, Prompt, is_conversation
from malmoi.server.catalogue.upstream.asked_chat import chat_body, chat_extras
from malmoi.server.errors import ServerError


class Unsaid(float):
    """A number that no request has said, so the other machine takes its own."""


class UnsaidCount(int):
    """The same for a whole number."""


UNSAID = SamplingParams(
    temperature=Unsaid(1), top_p=Unsaid(1), top_k=UnsaidCount(0), min_p=Unsaid(0), typical_p=Unsaid(1),
    repetition_penalty=Unsaid(1),
)  # fmt: skip
"""The parameters of a request that says none: what the files of a model may say, they say there."""

_OPENAI = ("temperature", "top_p", "n", "max_tokens", "stop", "frequency_penalty", "presence_penalty", "seed")
_ELSEWHERE = (
    "top_k", "min_p", "typical_p", "min_tokens", "repetition_penalty", "ignore_eos", "regex", "grammar", "choice",
    "script_lock", "latin_share", "beam_width", "length_penalty", "early_stopping",
)  # fmt: skip
"""Parameters that some servers know besides, called there as here."""
_TRANSLATED = ("logit_bias", "logprobs", "json_schema")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request: the path below the URL, what OpenAI's protocol says, and what only some servers understand."""

    path: str
    body: Mapping[str, Any]
    extras: Mapping[str, Any]


def asked(prompt: Prompt, params: SamplingParams) -> Asked:
    """What is sent for a prompt. Raises ServerError that names a parameter which cannot be sent at all.

    >>> from dataclasses import replace
    >>> one = asked([{"role": "user", "content": "안녕?"}], replace(UNSAID, max_tokens=5, top_k=3))
    >>> one.path, one.extras
    ('/chat/completions', {'top_k': 3})
    >>> asked("옛날에", UNSAID).body
    {'prompt': '옛날에'}
    """
    path, said, extras = _of_prompt(prompt)
    given = {
        field.name: getattr(params, field.name) for field in fields(params) if _is_said(params, field.name)
    }
    for name in given:
        if name not in (*_OPENAI, *_ELSEWHERE, *_TRANSLATED):
            raise ServerError(
                f"{name} cannot be asked of a model of another machine. Leave it out.", param=name
            )
    said |= {name: _plain(value) for name, value in given.items() if name in _OPENAI}
    extras |= {name: _plain(value) for name, value in given.items() if name in _ELSEWHERE}
    return Asked(path=path, body=said | _translated(given, is_chat=path != "/completions"), extras=extras)


def _of_prompt(prompt: Prompt) -> tuple[str, dict[str, Any], dict[str, Any]]:
    if isinstance(prompt, Infill):
        return "/completions", {"prompt": prompt.before, "suffix": prompt.after}, {}
    if isinstance(prompt, ChatPrompt):
        return "/chat/completions", chat_body(prompt), chat_extras(prompt)
    if is_conversation(prompt):
        return _of_prompt(ChatPrompt(messages=prompt))
    return "/completions", {"prompt": prompt if isinstance(prompt, str) else list(prompt)}, {}


def _is_said(params: SamplingParams, name: str) -> bool:
    value = getattr(params, name)
    if isinstance(getattr(UNSAID, name), Unsaid | UnsaidCount):  # else the model there would take its own
        return not isinstance(value, Unsaid | UnsaidCount)
    if name == "logprobs":  # 0, of the chosen token alone, equals False
        return value is not False
    return bool(value != getattr(UNSAID, name))


def _translated(given: Mapping[str, Any], *, is_chat: bool) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if "logit_bias" in given:
        said["logit_bias"] = {str(token): bias for token, bias in given["logit_bias"].items()}
    if "logprobs" in given:
        num_top = int(given["logprobs"]) if given["logprobs"] is not True else 0
        said |= {"logprobs": True, "top_logprobs": num_top} if is_chat else {"logprobs": num_top}
    if "json_schema" in given:
        if not is_chat:
            raise ServerError(
                "json_schema cannot be asked of a text on another machine. Ask /v1/chat/completions.",
                param="json_schema",
            )
        said["response_format"] = _form(given["json_schema"])
    return said


def _form(schema: str) -> dict[str, Any]:
    if json.loads(schema) == {"type": "object"}:
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": json.loads(schema)},
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
