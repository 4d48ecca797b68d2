"""A conversation in OpenAI's words: messages with their files, tools, an effort. Read first: `asked.py`."""

from typing import Any

from malmoi.core.errors import MediaError
from malmoi.llm.prompt import ChatPrompt
from malmoi.media.sources import is_data_url
from malmoi.server.thinking import BUDGETS
from malmoi.text.chat import Message

_KINDS = {"iVBOR": "image/png", "/9j/": "image/jpeg", "R0lGOD": "image/gif", "UklGR": "image/webp"}
"""How files of a kind begin, in base64: a data: URL here may leave its kind out, elsewhere it may not."""


def chat_body(chat: ChatPrompt) -> dict[str, Any]:
    """What OpenAI's protocol says of a conversation. Raises MediaError for a file that did not come with it."""
    said: dict[str, Any] = {"messages": [_message(message) for message in chat.messages]}
    if chat.tools:
        said["tools"] = [dict(tool) for tool in chat.tools]
        is_named = chat.tool_choice not in ("auto", "none", "required")
        said["tool_choice"] = (
            {"type": "function", "function": {"name": chat.tool_choice}} if is_named else chat.tool_choice
        )
        if not chat.is_parallel:
            said["parallel_tool_calls"] = False
    if (effort := _effort(chat)) is not None:
        said["reasoning_effort"] = effort
    return said


def _effort(chat: ChatPrompt) -> str | None:
    """The effort that means the same, if there is one: as such a server was asked, so it is asked there."""
    if chat.thinks is False and chat.thought_budget is None:
        return "none"
    if chat.thinks:
        return next((effort for effort, budget in BUDGETS.items() if budget == chat.thought_budget), None)
    return None


def chat_extras(chat: ChatPrompt) -> dict[str, Any]:
    """What only some servers understand of it."""
    extras: dict[str, Any] = {}
    if _effort(chat) is None:
        if chat.thought_budget is not None:  # first, as a refusal names the first
            extras["thinking_budget"] = chat.thought_budget
        if chat.thinks is not None:
            extras["chat_template_kwargs"] = {"enable_thinking": chat.thinks}
    if chat.is_continued:
        extras |= {"continue_final_message": True, "add_generation_prompt": False}
    if chat.beginning:
        extras["beginning"] = list(chat.beginning)
    return extras


def _message(message: Message) -> dict[str, Any]:
    content = message.get("content")
    return (
        {**message, "content": [_part(part) for part in content]}
        if isinstance(content, list)
        else {**message}
    )


def _part(part: Any) -> Any:
    """A part in OpenAI's spelling."""
    match part:
        case {"type": "image", "image": str(url)} if is_data_url(url):
            return {"type": "image_url", "image_url": {"url": _with_kind(url)}}
        case {"type": "audio", "audio": str(url)} if is_data_url(url):
            head, _, data = url.partition(",")
            kind = head.removeprefix("data:").partition(";")[0].removeprefix("audio/").removeprefix("x-")
            return {"type": "input_audio", "input_audio": {"data": data, "format": kind or "wav"}}
        case {"type": "image" | "audio" as kind}:
            raise MediaError(
                f"the {kind} is no data: URL, and a model of another machine can read nothing else."
            )
    return part


def _with_kind(url: str) -> str:
    """A data: URL that says what it is of."""
    head, _, data = url.partition(",")
    if not head.startswith("data:;"):
        return url
    kind = next((kind for beginning, kind in _KINDS.items() if data.startswith(beginning)), "image/png")
    return f"data:{kind}{head.removeprefix('data:')},{data}"
