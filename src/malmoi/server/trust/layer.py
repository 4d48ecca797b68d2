"""What the layers around the application have in common (ASGI), and the one that answers in any case.

A layer sees every request before any endpoint does, so that no endpoint can forget it. Place in the flow: `app.py` puts
them on, the outermost last. Read next: `access.py`, who may ask; `limits.py`, how much.
"""

from collections.abc import Mapping

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from malmoi.server.dialect import as_response
from malmoi.server.errors import ServerError

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Those that only look."""


class Layer:
    """An application around another; one that refuses a request raises ServerError from `admit`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            await self.admit(scope, receive, send)
        except ServerError as error:
            response = await as_response(Request(scope), error)
            await response(scope, receive, send)

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, or raise ServerError before anything was sent."""
        await self.app(scope, receive, send)


class AnswerAll(Layer):
    """An error that nobody foresaw is an answer as well, and HEAD is answered as GET without a body.

    It is inside of all that adds to answers, headers for example, so those hold for these too. An error behind the
    first byte ends the connection, as all that can be done.
    """

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "HEAD":  # uvicorn, which has the scope as it was, leaves the body out
            scope = {**scope, "method": "GET"}
        has_begun = False

        async def noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception as error:
            if has_begun:
                raise
            response = await as_response(Request(scope), error)
            await response(scope, receive, send)


def with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    """`send`, which writes these headers as well."""
    added = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return sent


def header(scope: Scope, name: bytes) -> str:
    """The first header of a name, in lower case; an empty text if there is none."""
    found: bytes = next((value for key, value in scope["headers"] if key == name), b"")
    return found.decode("latin-1")
