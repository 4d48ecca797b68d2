"""What `/v1/responses` answers with: items, one after the other, and the events in which they come.

    Delta -> OUTPUT: opens an item, fills it, closes it -> events;   at the end its items are the answer

Place in the flow: `responses.py` puts the events into a response. Read next: `responses_items.py`.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from malmoi.llm import Completion
from malmoi.llm.answer import Delta
from malmoi.llm.completion import CallDelta
from malmoi.server.openai.responses_items import CallItem, Event, Item, MessageItem, Status, ThoughtItem


class Output:
    """The items of an answer as they come: one is open at a time.

    Attributes:
        items: those that are closed, as the answer has them.
    """

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self._kind: object = None
        self._item: Item | None = None

    @classmethod
    def of(cls, completion: Completion, status: Status) -> "Output":
        """That of a whole answer: as if it had come in one step."""
        calls = [CallDelta(place, *call) for place, call in enumerate(completion.tool_calls)]
        output = cls()
        for _ in output.added(Delta(completion.text, thought=completion.thought, calls=calls)):
            pass
        for _ in output.ended(status):
            pass
        return output

    def added(self, delta: Delta) -> Iterator[Event]:
        """The events of what a step has added (mutates the output)."""
        if delta.thought:
            yield from self._fill("thought", ThoughtItem, delta.thought)
        if delta.text:
            yield from self._fill("text", MessageItem, delta.text)
        for call in delta.calls:
            yield from self._fill(call.place, partial(CallItem, call), call.arguments)

    def ended(self, status: Status) -> Iterator[Event]:
        """The events after which all is closed (mutates the output). One that says nothing is an empty message."""
        if self._item is None:
            yield from self._fill("text", MessageItem, "")
        yield from self._closed(status)

    def _fill(self, kind: object, make: Callable[[int], Item], piece: str) -> Iterator[Event]:
        """Add a piece to the item of this kind, which is the open one or opened now."""
        if kind != self._kind or self._item is None:
            yield from self._closed("completed")
            self._kind, self._item = kind, make(len(self.items))
            yield "output_item.added", self._told(self._item.written("in_progress"))
            yield from self._item.opened()
        if piece:
            self._item.text += piece
            yield self._item.filled(piece)

    def _closed(self, status: Status) -> Iterator[Event]:
        if self._item is not None:
            yield from self._item.closed()
            done = self._item.written(status)
            yield "output_item.done", self._told(done)
            self.items.append(done)
            self._item = None

    def _told(self, item: dict[str, Any]) -> dict[str, Any]:
        return {"output_index": len(self.items), "item": item}
