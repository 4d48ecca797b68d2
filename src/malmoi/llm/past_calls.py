"""Calls in the messages of a conversation, spelled as a template wants them.

Clients send them as OpenAI does: arguments as the text of a JSON object, ids of any length. Place in the flow:
`chat_format.py` asks before it renders. Read next: `malmoi/text/messages.py`, what a template is given.
"""

from collections.abc import Mapping
from typing import Any

from malmoi.llm.tools.arguments import arguments_of
from malmoi.text.chat import Message


def with_objects(message: Any) -> Any:
    """The message, with the arguments of its calls as objects where their text is one.

    >>> with_objects({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}]})
    {'role': 'assistant', 'tool_calls': [{'function': {'name': 'f', 'arguments': {'a': 1}}}]}
    """
    calls = _calls(message)
    return message if calls is None else {**message, "tool_calls": list(map(_with_object, calls))}


def with_short_ids(message: Any, length: int) -> Any:
    """The message, with the last `length` characters of longer ids of calls, for templates that take no others.

    >>> with_short_ids({"role": "tool", "tool_call_id": "call_0123456789ab", "content": "맑음"}, 9)
    {'role': 'tool', 'tool_call_id': '3456789ab', 'content': '맑음'}
    """
    if isinstance(message, Mapping) and isinstance(answered := message.get("tool_call_id"), str):
        message = {**message, "tool_call_id": answered[-length:]}
    if (calls := _calls(message)) is None:
        return message
    return {**message, "tool_calls": [_with_short_id(call, length) for call in calls]}


def _calls(message: Any) -> list[Any] | tuple[Any, ...] | None:
    calls = message.get("tool_calls") if isinstance(message, Mapping) else None
    return calls if isinstance(calls, list | tuple) else None


def _with_object(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(text := function.get("arguments"), str):
        return call
    arguments = arguments_of(text)
    return call if arguments is None else {**call, "function": {**function, "arguments": arguments}}


def _with_short_id(call: Any, length: int) -> Any:
    if not isinstance(call, Mapping) or not isinstance(name := call.get("id"), str):
        return call
    return {**call, "id": name[-length:]}


def object_is_shown(text: str) -> bool:
    """Whether a rendered call has the arguments `{"a": "b"}` as JSON, not as Python would write them."""
    return "{'a'" not in text


PROBE: list[Message] = [
    {"role": "user", "content": "a"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "call00000", "type": "function", "function": {"name": "f", "arguments": {"a": "b"}}}
        ],
    },
    {"role": "tool", "content": "c", "tool_call_id": "call00000", "name": "f"},
]
"""A conversation with a call whose arguments are an object: what a template makes of it says whether it takes one."""
