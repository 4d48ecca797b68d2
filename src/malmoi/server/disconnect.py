"""Who goes away ends what he has asked for, and no endpoint has to think of it.

    choosing, waiting for a model, reading, writing   cancelled as soon as the client is gone
    an answer that is being sent                      notices it itself (`sse.py`)

What has no body to read is not watched: it takes no time. Place in the flow: `app.py` puts this layer around the
endpoints. Read next: `catalogue/holds.py`, what a request gives back at its end.
"""

import asyncio

from starlette.types import Message, Receive, Scope, Send

from malmoi.server.trust.layer import Layer


class CancelOnDisconnect(Layer):
    """Cancels the work of a request whose client goes away before the answer begins.

    The work stays in the task of the request, so that nothing is left to do behind its last byte: who asks again finds
    his place free. Only who listens for the end is another task.
    """

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        working = asyncio.current_task()
        assert working is not None, "a coroutine runs in a task"
        is_whole = asyncio.Event()  # behind the body comes nothing but that the client is gone
        has_begun = has_left = False

        async def until_disconnected() -> Message:
            await is_whole.wait()
            while (message := await receive())["type"] != "http.disconnect":
                pass
            return message

        async def received() -> Message:
            if is_whole.is_set():
                return await asyncio.shield(disconnection)
            message = await receive()
            if not message.get("more_body", False):
                is_whole.set()
            return message

        async def sent(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        def give_up(disconnection: asyncio.Future[Message]) -> None:
            nonlocal has_left
            if not (disconnection.cancelled() or disconnection.exception() or has_begun):
                has_left = True
                working.cancel()

        disconnection = asyncio.ensure_future(until_disconnected())
        disconnection.add_done_callback(give_up)
        try:
            await self.app(scope, received, sent)
        except asyncio.CancelledError:
            if not has_left or working.cancelling() > 1:  # somebody else has cancelled it, or both
                raise
        finally:
            disconnection.remove_done_callback(give_up)
            disconnection.cancel()
            if has_left:
                working.uncancel()
