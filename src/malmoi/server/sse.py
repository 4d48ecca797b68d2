"""Answers as they come: server-sent events, as OpenAI's clients read them.

    items -> `data: {...}` each, `: ` while there is nothing to say, at last `data: [DONE]`

When the client goes away the items are closed, and with them the request in the engine. What fails on the way is one
more event. Place in the flow: `chat.py` and `completions.py` hand their chunks over. Read next: `errors.py`.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing, suppress
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import StreamingResponse

from malmoi.server.errors import described

T = TypeVar("T")

KEEP_ALIVE_SECONDS = 10.0
"""A proxy that hears nothing for so long may take the connection for dead."""
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


async def event_stream(items: AsyncGenerator[Mapping[str, Any], None]) -> StreamingResponse:
    """A response with an event for each item. What goes wrong before the first is raised, and has a status."""
    first = await anext(items)
    return StreamingResponse(_events(first, items), media_type="text/event-stream", headers=_HEADERS)


async def _events(
    first: Mapping[str, Any], items: AsyncGenerator[Mapping[str, Any], None]
) -> AsyncGenerator[str, None]:
    async with aclosing(items):
        yield _event(first)
        try:
            async for item in _with_pauses(items):
                yield ": \n\n" if item is None else _event(item)
        except Exception as error:  # noqa: BLE001  # the status is sent: the stream itself has to say it
            yield _event(described(error)[1])
        yield "data: [DONE]\n\n"


async def _with_pauses(items: AsyncGenerator[T, None]) -> AsyncGenerator[T | None, None]:
    """The items, and None whenever there was none for a while."""
    next_item = asyncio.ensure_future(anext(items))
    try:
        while True:
            done, _ = await asyncio.wait([next_item], timeout=KEEP_ALIVE_SECONDS)
            if not done:
                yield None
                continue
            try:
                item = next_item.result()
            except StopAsyncIteration:
                return
            next_item = asyncio.ensure_future(anext(items))
            yield item
    finally:
        next_item.cancel()
        with suppress(asyncio.CancelledError, StopAsyncIteration):
            await next_item


def _event(item: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(item, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def while_connected(request: Request, answer: Awaitable[T]) -> T:
    """The answer, unless the client goes away before: then it is given up, and CancelledError raised."""
    working = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise asyncio.CancelledError("the client went away")
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
