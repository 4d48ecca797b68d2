"""The items of an answer of `/v1/responses`: a thought, a message, a call, and the events in which each comes.

Place in the flow: `responses_output.py` opens, fills and closes them. Read next: `responses_output.py`.
"""

import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from malmoi.llm.completion import CallDelta

Event = tuple[str, dict[str, Any]]
"""Its type without "response.", and what it says."""
Status = Literal["in_progress", "completed", "incomplete"]


class Item(ABC):
    """An item that grows piece by piece; `place` is that in the output."""

    prefix: ClassVar[str]

    def __init__(self, place: int) -> None:
        self.id, self.text = f"{self.prefix}_{uuid.uuid4().hex}", ""
        self.at = {"item_id": self.id, "output_index": place}

    @abstractmethod
    def written(self, status: Status) -> dict[str, Any]:
        """As it is so far."""

    @abstractmethod
    def opened(self) -> Iterator[Event]:
        """What follows its announcement."""

    @abstractmethod
    def filled(self, piece: str) -> Event:
        """That a piece was added."""

    @abstractmethod
    def closed(self) -> Iterator[Event]:
        """What goes before its end."""


class ThoughtItem(Item):
    """What the model thought: the one part of a summary, in which clients show it."""

    prefix = "rs"

    def written(self, status: Status) -> dict[str, Any]:
        summary = [self._part()] if status != "in_progress" else []
        return {"id": self.id, "type": "reasoning", "summary": summary, "status": status}

    def opened(self) -> Iterator[Event]:
        yield "reasoning_summary_part.added", {**self.at, "summary_index": 0, "part": self._part()}

    def filled(self, piece: str) -> Event:
        return "reasoning_summary_text.delta", {**self.at, "summary_index": 0, "delta": piece}

    def closed(self) -> Iterator[Event]:
        yield "reasoning_summary_text.done", {**self.at, "summary_index": 0, "text": self.text}
        yield "reasoning_summary_part.done", {**self.at, "summary_index": 0, "part": self._part()}

    def _part(self) -> dict[str, Any]:
        return {"type": "summary_text", "text": self.text}


class MessageItem(Item):
    """What it says."""

    prefix = "msg"

    def written(self, status: Status) -> dict[str, Any]:
        content = [self._part()] if status != "in_progress" else []
        return {
            "id": self.id, "type": "message", "status": status, "role": "assistant", "content": content,
        }  # fmt: skip

    def opened(self) -> Iterator[Event]:
        yield "content_part.added", {**self.at, "content_index": 0, "part": self._part()}

    def filled(self, piece: str) -> Event:
        return "output_text.delta", {**self.at, "content_index": 0, "delta": piece, "logprobs": []}

    def closed(self) -> Iterator[Event]:
        yield "output_text.done", {**self.at, "content_index": 0, "text": self.text, "logprobs": []}
        yield "content_part.done", {**self.at, "content_index": 0, "part": self._part()}

    def _part(self) -> dict[str, Any]:
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": []}


class CallItem(Item):
    """What it wants called."""

    prefix = "fc"

    def __init__(self, call: CallDelta, place: int) -> None:
        super().__init__(place)
        self._call = {"call_id": call.id, "name": call.name}

    def written(self, status: Status) -> dict[str, Any]:
        return {
            "id": self.id, "type": "function_call", "status": status, **self._call, "arguments": self.text,
        }  # fmt: skip

    def opened(self) -> Iterator[Event]:
        return iter(())

    def filled(self, piece: str) -> Event:
        return "function_call_arguments.delta", {**self.at, "delta": piece}

    def closed(self) -> Iterator[Event]:
        told = {**self.at, "name": self._call["name"], "arguments": self.text}
        yield "function_call_arguments.done", told
