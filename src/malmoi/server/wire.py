"""How what comes is written: one `Wire` a protocol.

    DataEvents      data: {...}                 at last `data: [DONE]`
    NamedEvents     event: TYPE, data: {...}    the last event says itself that it is
    Lines           {...} a line                so does the last line

Place in the flow: `sse.py` writes an answer with one. Read next: `sse.py`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from malmoi.server.errors import described


class Wire(ABC):
    """Writes items, `pause` while there is nothing to say, and `end` behind the last."""

    media_type: ClassVar[str] = "text/event-stream"
    pause: ClassVar[str] = ": \n\n"
    end: ClassVar[str] = ""

    @abstractmethod
    def write(self, item: Mapping[str, Any]) -> str:
        """An item."""

    def failed(self, error: BaseException) -> Mapping[str, Any]:
        """The item that says what went wrong behind the first, when the status was sent."""
        return described(error)[1]


class DataEvents(Wire):
    r"""OpenAI's chats and completions: events without a name.

    >>> DataEvents().write({"a": "가"})
    'data: {"a":"가"}\n\n'
    """

    end = "data: [DONE]\n\n"

    def write(self, item: Mapping[str, Any]) -> str:
        return f"data: {as_json(item)}\n\n"


class NamedEvents(Wire):
    r"""Events that are called what their `type` is.

    >>> NamedEvents().write({"type": "ping"})
    'event: ping\ndata: {"type":"ping"}\n\n'
    """

    def write(self, item: Mapping[str, Any]) -> str:
        return f"event: {item['type']}\ndata: {as_json(item)}\n\n"

    def failed(self, error: BaseException) -> Mapping[str, Any]:
        return {"type": "error", **super().failed(error)}


class Lines(Wire):
    """A line of JSON each. There is no line that says nothing, so a pause is silent."""

    media_type = "application/x-ndjson"
    pause = ""

    def write(self, item: Mapping[str, Any]) -> str:
        return as_json(item) + "\n"


def as_json(item: Mapping[str, Any]) -> str:
    """JSON in one line, with letters as themselves."""
    return json.dumps(item, ensure_ascii=False, separators=(",", ":"))
