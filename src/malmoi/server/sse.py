"""Answers as they come: server-sent events, as OpenAI's clients read them.

    items -> `data: {...}` each, `: ` while there is nothing to say, at last `data: [DONE]`

When the client goes away the items are closed, and with them the request in the engine. What fails on the way is one
more event. Place in the flow: `answered.py` hands over what each dialect says. Read next: `errors.py`.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from malmoi.server.wire import Wire

Item = Mapping[str, Any] | None
"""An event; None: nothing to say yet."""

KEEP_ALIVE_SECONDS = 10.0
"""A proxy that hears nothing for so long may take the connection for dead."""
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def event_stream(
    items: AsyncGenerator[Item, None], wire: Wire, *, headers: Mapping[str, str]
) -> "EventStream":
    """A response with these headers and an event for each item. What goes wrong before the first has a status.

    So the first item, which may be None, says that the request is good; it should not wait for the answer.
    """
    return EventStream(await anext(items), items, wire, headers)


class EventStream(StreamingResponse):
    """`first` and the items after it, as `wire` writes them; closed at its end, also if nobody has read one."""

    def __init__(
        self, first: Item, items: AsyncGenerator[Item, None], wire: Wire, headers: Mapping[str, str]
    ) -> None:
        self._items, self._wire = items, wire
        self._next: asyncio.Future[Item] | None = None
        super().__init__(self._events(first), media_type=wire.media_type, headers={**_HEADERS, **headers})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._items):
            try:
                await super().__call__(scope, receive, send)
            finally:
                if self._next is not None:  # a generator cannot be closed while it is asked for an item
                    self._next.cancel()
                    await asyncio.gather(self._next, return_exceptions=True)

    async def _events(self, item: Item) -> AsyncGenerator[str, None]:
        try:
            while True:
                yield self._written(item)
                self._next = asyncio.ensure_future(anext(self._items))
                while not self._next.done():
                    await asyncio.wait([self._next], timeout=KEEP_ALIVE_SECONDS)
                    if not self._next.done():
                        yield self._wire.pause
                item = self._next.result()
        except StopAsyncIteration:
            pass
        except Exception as error:  # noqa: BLE001  # the status is sent: the stream itself has to say it
            yield self._wire.write(self._wire.failed(error))
        yield self._wire.end

    def _written(self, item: Item) -> str:
        return self._wire.pause if item is None else self._wire.write(item)
