"""What a chat template is given: messages and tools as plain data.

    the caller's messages -> MESSAGES -> authorship.py -> template

A template is a stranger's program, and the sandbox cannot know which methods of which objects are harmless, so all
that it sees is made of exact JSON types. Read next: authorship.py.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from malmoi.core.errors import TemplateError

_REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names under which a message's thoughts are passed. Templates read the first, gpt-oss the second."""


def plain_messages(messages: Sequence[object], *, nfc: bool) -> list[dict[str, Any]]:
    """Return the messages as `transformers` hands them on: no value None, and thoughts under each name but "reasoning".

    With `nfc` their strings are normalised to NFC.

    Raises:
        TemplateError: there is none, one is not a mapping with a role, or one holds half a character.
    """
    if not messages:
        raise TemplateError("the conversation is empty. Give at least one message.")
    conversation = []
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise TemplateError(
                f"message {index} is {message!r:.80}, not a mapping with a role. "
                'Write it like {"role": "user", "content": "안녕"}.'
            )
        given = plain({key: value for key, value in message.items() if value is not None}, nfc=nfc)
        thoughts = next((given[key] for key in _REASONING if key in given), None)
        if thoughts is not None:
            given = {"thinking": thoughts, **given, "reasoning_content": thoughts}
        conversation.append(given)
    return conversation


def plain_tools(tools: Sequence[object] | None, *, nfc: bool = False) -> list[Any] | None:
    """Return the descriptions of tools as plain data; with `nfc` their strings are normalised to NFC.

    Raises:
        TemplateError: one is not a mapping.
    """
    for tool in tools or ():
        if not isinstance(tool, Mapping):
            raise TemplateError(f"a tool is {tool!r:.80}. Describe it with a JSON schema, in a mapping.")
    return None if tools is None else [plain(tool, nfc=nfc) for tool in tools]


def plain(value: Any, *, nfc: bool = False) -> Any:
    """Return a copy of JSON-like `value` in exact Python types; anything else, an image say, becomes "<TypeName>".

    >>> plain({"a": (1, "b"), "image": object()})
    {'a': (1, 'b'), 'image': '<object>'}
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(str.__str__(value), nfc)
    if isinstance(value, (int, float)):
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(item, nfc=nfc) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        copy = [plain(item, nfc=nfc) for item in value]
        return copy if isinstance(value, list) else tuple(copy)
    return f"<{type(value).__name__}>"


def _text(text: str, nfc: bool) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TemplateError(
            f"a message holds half a character: {text!r:.80}. Repair the text first."
        ) from None
    return unicodedata.normalize("NFC", text) if nfc else text
