"""The items that `/v1/responses` is given, as the messages that a chat format reads, and what is asked of the answer.

    input -> MESSAGES OF: thoughts, words and calls of the assistant are one message -> ChatPrompt

Place in the flow: `responses.py` reads its bodies with it. Read next: `responses_output.py`, the way back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from malmoi.engine import SamplingParams
from malmoi.llm.prompt import ChatPrompt
from malmoi.server.errors import ServerError
from malmoi.server.openai.responses_bodies import AllowedFunctions, NamedFunction, ResponsesBody
from malmoi.server.sampling import form_of
from malmoi.server.thinking import Wish
from malmoi.server.tools import function, with_tools

_OF_ITEMS = {"id", "status"}
"""What an item may say of itself beside what it is."""
_OF_MESSAGES = {"type", "phase", *_OF_ITEMS}
_OF_CALLS = {"parsed_arguments", "caller", *_OF_ITEMS}
_OF_THOUGHTS = {"content", "encrypted_content", *_OF_ITEMS}
_DIRECT = {"type": "direct"}
"""The caller of a call that the model itself has made."""
_HINTS = {"prompt_cache_breakpoint"}
"""What changes nothing: beginnings that were seen before are found wherever they end."""
_OF_IMAGES = {"detail", *_HINTS}
_OF_ANSWERS = {"annotations", "logprobs", "parsed", *_HINTS}
"""What a text may have about it as it was answered; clients send it back."""


def prompt_of(body: ResponsesBody, conversation: Sequence[dict[str, Any]]) -> ChatPrompt:
    """What is asked after a conversation, but for thinking. Raises ServerError for a choice of what is not there."""
    told = [] if body.instructions is None else [{"role": "system", "content": body.instructions}]
    prompt = ChatPrompt(messages=[*told, *conversation])
    tools = [function(one.name, one.description, one.parameters, is_strict=one.strict) for one in body.tools]
    allowed = None
    match body.tool_choice:
        case NamedFunction(name=choice):
            pass
        case AllowedFunctions(mode=choice):
            allowed = [one.name for one in body.tool_choice.tools]
        case choice:
            pass
    return with_tools(prompt, tools, choice=choice, allowed=allowed, is_parallel=body.parallel_tool_calls)


def wish_of(body: ResponsesBody) -> Wish | None:
    """What the body says of thinking."""
    effort = body.reasoning.effort
    return None if effort is None else Wish.of_effort(effort, param="reasoning")


def params_of(body: ResponsesBody, defaults: SamplingParams) -> SamplingParams:
    """What the body asks for, on top of `defaults`. Raises RequestError for a value out of its range."""
    names = {"max_output_tokens": "max_tokens", "temperature": "temperature", "top_p": "top_p"}
    given: dict[str, Any] = {
        ours: getattr(body, name) for name, ours in names.items() if name in body.model_fields_set
    }
    return replace(defaults, **given, **form_of(body.text.format.type, body.text.format.schema_))


def messages_of(given: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is new, as chat formats read it. Raises ServerError for an item that is not known.

    >>> messages_of([{"role": "developer", "content": [{"type": "input_text", "text": "짧게"}]}])
    [{'role': 'system', 'content': [{'type': 'text', 'text': '짧게'}]}]
    >>> called = {"type": "function_call", "call_id": "1", "name": "시각", "arguments": "{}"}
    >>> messages = messages_of([{"role": "assistant", "content": "잠깐만요."}, called])
    >>> len(messages), messages[0]["tool_calls"][0]["id"]
    (1, '1')
    """
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    messages: list[dict[str, Any]] = []
    for item in given:
        said = _said(item)
        if messages and _goes_on(messages[-1], said):
            messages[-1] |= {
                **said,
                "content": said["content"] or messages[-1]["content"],
                **_with(messages[-1].get("tool_calls", []), said.get("tool_calls", [])),
            }
        else:
            messages.append(said)
    return messages


def _goes_on(before: Mapping[str, Any], said: Mapping[str, Any]) -> bool:
    """Whether two things that the assistant said are of one message: first a thought, then words, then calls."""
    if before["role"] != "assistant" or said["role"] != "assistant" or "reasoning_content" in said:
        return False
    return "tool_calls" in said or not (before["content"] or "tool_calls" in before)


def _with(before: list[Any], calls: list[Any]) -> dict[str, Any]:
    return {"tool_calls": [*before, *calls]} if before or calls else {}


def _said(item: Mapping[str, Any]) -> dict[str, Any]:
    """The message that an item is, or is a part of."""
    match _without_nulls(item):
        case {
            "type": "function_call",
            "call_id": str(id),
            "name": str(name),
            "arguments": str(arguments),
            **more,
        } if more.keys() <= _OF_CALLS and more.get("caller", _DIRECT) == _DIRECT:
            call = {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
            return {"role": "assistant", "content": "", "tool_calls": [call]}
        case {
            "type": "function_call_output",
            "call_id": str(id),
            "output": str() | list() as output,
            **more,
        } if more.keys() <= _OF_CALLS and more.get("caller", _DIRECT) == _DIRECT:
            return {"role": "tool", "tool_call_id": id, "content": _content(output)}
        case {"type": "reasoning", "summary": list(summary), **more} if (
            more.keys() <= _OF_THOUGHTS and not more.get("encrypted_content")
        ):
            told = [_thought(part) for part in more.get("content") or summary]
            return {"role": "assistant", "content": "", "reasoning_content": "".join(told)}
        case {"role": str(role), "content": str() | list() as content, **more} if (
            more.get("type", "message") == "message" and more.keys() <= _OF_MESSAGES
        ):
            return {"role": "system" if role == "developer" else role, "content": _content(content)}
    raise ServerError(
        f"an item of the type {item.get('type', 'message')!r:.40} with the keys "
        f"{', '.join(sorted(item)):.80} is not one that is read here. Send messages, with a role and a content, "
        "function_call, function_call_output, and reasoning as you got it.",
        param="input",
    )


def _thought(part: object) -> str:
    match part:
        case {"type": "summary_text" | "reasoning_text", "text": str(text)}:
            return text
    raise ServerError("a part of a reasoning item has no text. Send it as you got it.", param="input")


def _content(content: str | list[Any]) -> str | list[dict[str, Any]]:
    return content if isinstance(content, str) else list(map(_part, content))


def _part(part: object) -> dict[str, Any]:
    match _without_nulls(part) if isinstance(part, dict) else part:
        case {"type": "input_text" | "output_text", "text": str(text), **more} if more.keys() <= _OF_ANSWERS:
            return {"type": "text", "text": text}
        case {"type": "input_image", "image_url": str(url), **more} if (
            more.keys() <= _OF_IMAGES and more.get("detail", "auto") == "auto"
        ):
            return {"type": "image", "image": url}
        case {"type": "input_audio", "input_audio": dict(sound), **more} if more.keys() <= _HINTS:
            return {"type": "input_audio", "input_audio": sound}
    keys = f" with the keys {', '.join(sorted(part)):.80}" if isinstance(part, dict) else ""
    raise ServerError(
        f"a part of a content{keys} is not one that is read here. Send input_text, output_text, input_image with a "
        "data: URL in image_url and no detail but auto, or input_audio.",
        param="input",
    )


def _without_nulls(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}
