"""Who goes away ends what he has asked for, and no endpoint has to think of it.

    choosing a model, loading it, reading, writing   cancelled as soon as the client is gone
    an answer that is being sent                     notices it itself (`sse.py`)

Place in the flow: `app.py` puts this layer around the endpoints. Read next: `catalogue/holds.py`, what a request gives
back at its end.
"""

import asyncio

from starlette.types import Message, Receive, Scope, Send

from malmoi.server.trust.layer import Layer


class CancelOnDisconnect(Layer):
    """Cancels the work of a request whose client goes away before the answer begins."""

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_whole = asyncio.Event()  # behind the body comes nothing but that the client is gone
        has_begun = False

        async def gone() -> Message:
            await is_whole.wait()
            while (message := await receive())["type"] != "http.disconnect":
                pass
            return message

        async def received() -> Message:
            if is_whole.is_set():
                return await asyncio.shield(leaving)
            message = await receive()
            if not message.get("more_body", False):
                is_whole.set()
            return message

        async def noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        leaving = asyncio.ensure_future(gone())
        working = asyncio.ensure_future(self.app(scope, received, noted))
        try:
            await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
            if not has_begun:
                working.cancel()
            await asyncio.wait([working])
            if not working.cancelled():
                working.result()
        finally:
            for task in (working, leaving):
                task.cancel()
            await asyncio.gather(working, leaving, return_exceptions=True)
