"""Anthropic's messages as what a model is asked: blocks become texts, images, thoughts, calls, and messages of tools.

    CountTokensBody -> PROMPT OF -> ChatPrompt     thinking -> WISH OF -> thinking.py

Place in the flow: `messages.py` reads its bodies with it. Read next: `malmoi/llm/prompt.py`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from malmoi.llm.prompt import ChatPrompt
from malmoi.server.anthropic.bodies import AnthropicMessage, Content, CountTokensBody
from malmoi.server.errors import ServerError
from malmoi.server.thinking import Wish
from malmoi.server.tools import function, with_tools

_CHOICES = {"auto": "auto", "any": "required", "none": "none"}
_OF_RESULTS = {"content", "is_error"}
"""What a result may say beside whose it is."""
_DIRECT = {"type": "direct"}
"""The caller of a call that the model itself has made."""


def prompt_of(body: CountTokensBody) -> ChatPrompt:
    """What is asked, but for thinking. Raises ServerError for messages that cannot be what they say."""
    if not body.messages:
        raise ServerError("messages is empty. Send what the user says.", param="messages")
    system = [] if body.system is None else [{"role": "system", "content": _plain(body.system)}]
    prompt = ChatPrompt(
        messages=[*system, *(said for one in body.messages for said in _messages(one))],
        is_continued=body.messages[-1].role == "assistant",
    )
    tools = [
        function(one.name, one.description, one.input_schema, is_strict=one.strict) for one in body.tools
    ]
    if body.tool_choice is None:
        return with_tools(prompt, tools)
    choice = _CHOICES.get(body.tool_choice.type, body.tool_choice.name)
    if choice is None or (body.tool_choice.name is not None) != (body.tool_choice.type == "tool"):
        raise ServerError(
            "tool_choice has a name where it is of the type tool, and only there.", param="tool_choice"
        )
    return with_tools(
        prompt, tools, choice=choice, is_parallel=not body.tool_choice.disable_parallel_tool_use
    )


def wish_of(body: CountTokensBody) -> Wish | None:
    """What the body says of thinking. Raises ServerError for two budgets, or one where there is nothing to spend."""
    effort = None if body.output_config is None else body.output_config.effort
    if body.thinking is None:
        return None if effort is None else Wish.of_effort(effort, param="output_config")
    if (body.thinking.budget_tokens is not None) != (body.thinking.type == "enabled"):
        raise ServerError(
            "thinking has budget_tokens where it is of the type enabled, and only there.", param="thinking"
        )
    if effort is None:
        thinks = body.thinking.type != "disabled"
        return Wish(param="thinking", thinks=thinks, budget=body.thinking.budget_tokens)
    if body.thinking.type != "adaptive":
        raise ServerError(
            "output_config.effort and thinking both say how much to think. Give one of them, or thinking of the type "
            "adaptive.",
            param="output_config",
        )
    return Wish.of_effort(effort, param="output_config")


def _messages(message: AnthropicMessage) -> Iterator[dict[str, Any]]:
    """One of the assistant's; of the user's, one for each result, and one for what is said beside them."""
    if isinstance(message.content, str):
        yield {"role": message.role, "content": message.content}
    elif message.role == "assistant":
        yield _of_assistant(message.content)
    else:
        said: list[dict[str, Any]] = []
        for block in map(_without_hint, message.content):
            match block:
                case {"type": "tool_result", "tool_use_id": str(id), **more} if not more.keys() - _OF_RESULTS:
                    content = more.get("content") or ""
                    if not isinstance(content, str | list):
                        raise _unknown(block)
                    if said:
                        raise ServerError(
                            "results of tools come before what else a message says. Send tool_result first.",
                            param="messages",
                        )
                    yield {
                        "role": "tool",
                        "tool_call_id": id,
                        "content": _result(content, more.get("is_error")),
                    }
                case _:
                    said.append(_part(block))
        if said:
            yield {"role": "user", "content": said}


def _of_assistant(blocks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    thoughts, said, calls = [], [], []
    for block in map(_without_hint, blocks):
        match block:
            case {"type": "thinking", "thinking": str(thought), **more} if not more.keys() - {"signature"}:
                thoughts.append(thought)
            case {"type": "tool_use", "id": str(id), "name": str(name), "input": dict(given), **more} if (
                more in ({}, {"caller": _DIRECT})
            ):
                told = {"name": name, "arguments": json.dumps(given, ensure_ascii=False)}
                calls.append({"id": id, "type": "function", "function": told})
            case _:
                said.append(_part(block))
    return {
        "role": "assistant",
        "content": said or "",
        **({"reasoning_content": "".join(thoughts)} if thoughts else {}),
        **({"tool_calls": calls} if calls else {}),
    }


def _plain(content: Content) -> Content:
    return content if isinstance(content, str) else [_part(_without_hint(block)) for block in content]


def _result(content: Content, is_error: object) -> Content:
    """What a tool has said; that it has failed, chat formats cannot say but in words."""
    if not is_error:
        return _plain(content)
    failed = {"type": "text", "text": "Error: "}
    return (
        f"Error: {content}"
        if isinstance(content, str)
        else [failed, *map(_part, map(_without_hint, content))]
    )


def _without_hint(block: Mapping[str, Any]) -> dict[str, Any]:
    """The block without what is null, and without a mark of where a cache may end.

    Beginnings are found here wherever they end.
    """
    return {key: value for key, value in block.items() if key != "cache_control" and value is not None}


def _part(block: Mapping[str, Any]) -> dict[str, Any]:
    match block:
        case {"type": "text", "text": str(text), **more} if more in ({}, {"citations": []}):
            return {"type": "text", "text": text}
        case {"type": "image", "source": dict(source), **more} if not more:
            return {"type": "image", "image": _image(source, block)}
    raise _unknown(block)


def _image(source: Mapping[str, Any], block: Mapping[str, Any]) -> str:
    match source:
        case {"type": "base64", "media_type": str(kind), "data": str(data), **more} if not more:
            return f"data:{kind};base64,{data}"
        case {"type": "url", "url": str(url), **more} if not more:
            return url
    raise _unknown(block)


def _unknown(block: Mapping[str, Any]) -> ServerError:
    return ServerError(
        f"a block of the type {block.get('type')!r:.40} with the keys {', '.join(sorted(block)):.80} is not "
        "read here. Send text, an image, tool_use and thinking as you got them, or tool_result.",
        param="messages",
    )
