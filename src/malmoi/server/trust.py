"""Whom the server trusts with what: keys, sizes, how many at once, which hosts, and what its page may load.

Each is a layer around the application (ASGI), so that no endpoint can forget it. Place in the flow: `app.py` puts them
on, the outermost last. Read next: `app.py`.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Iterable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from malmoi.server.errors import ServerError, as_response

OPEN_PATHS = ("/", "/health", "/ready")
"""What is answered without a key: the page, which asks for one, and whether the server is well."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; frame-ancestors 'none'"
)
_DOCS_POLICY = (
    "default-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net https://fastapi.tiangolo.com data:"
)


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
            response = await as_response(None, error)  # type: ignore[arg-type]  # it looks at the error alone
            await response(scope, receive, send)

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, or raise ServerError before anything was sent."""
        await self.app(scope, receive, send)


class RequireKey(Layer):
    """Asks for one of `keys` as `Authorization: Bearer KEY`, or as `X-Api-Key: KEY`, which Anthropic's clients send.

    Only digests are kept, and compared in constant time.
    """

    def __init__(self, app: ASGIApp, keys: Iterable[str]) -> None:
        super().__init__(app)
        self._digests = [_digest(key.encode()) for key in keys]

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path not in OPEN_PATHS and not path.startswith("/page/"):
            kind, _, key = _header(scope, b"authorization").partition(" ")
            key = key.strip(" ") if kind.lower() == "bearer" else _header(scope, b"x-api-key")
            given = _digest(key.encode("latin-1"))
            # All are compared, so that the time tells nothing of which one was near.
            are_equal = [hmac.compare_digest(given, digest) for digest in self._digests]
            if not any(are_equal):
                raise ServerError("a key is missing or wrong. Send Authorization: Bearer KEY.", status=401)
        await self.app(scope, receive, send)


class RequireHost(Layer):
    """Answers requests for these hosts alone: else any page in a browser could reach a server of this machine."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        super().__init__(app)
        self._hosts = frozenset(hosts)

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        said = _header(scope, b"host")
        host = said[1:].partition("]")[0] if said.startswith("[") else said.partition(":")[0]
        if host.lower() not in self._hosts:
            raise ServerError(
                f"this server is not called {host!r}. Use one of: {', '.join(sorted(self._hosts))}.",
                status=421,
            )
        await self.app(scope, receive, send)


class LimitBody(Layer):
    """Takes no body of more than `max_bytes`, whatever its header says, and none that pauses `max_pause` seconds."""

    def __init__(self, app: ASGIApp, max_bytes: int, max_pause: float) -> None:
        super().__init__(app)
        self._max_bytes, self._max_pause = max_bytes, max_pause

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        said = _header(scope, b"content-length")
        if said.isdecimal() and int(said) > self._max_bytes:
            raise self._too_large()
        num_bytes = 0
        is_whole = False

        async def counted() -> Message:
            nonlocal num_bytes, is_whole
            if is_whole:  # what comes now is that the client goes away
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), self._max_pause)
            except TimeoutError:
                raise ServerError(
                    f"nothing of the body came for {self._max_pause:g} s. Send it again.", status=408
                ) from None
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_bytes:
                raise self._too_large()
            is_whole = not message.get("more_body", False)
            return message

        await self.app(scope, counted, send)

    def _too_large(self) -> ServerError:
        return ServerError(f"the body has more than {self._max_bytes} bytes. Send less.", status=413)


class LimitRequests(Layer):
    """Works for at most `most` requests at once; another is told to come again. Pages and `/health` do not count."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        super().__init__(app)
        self._most, self.num_running = most, 0

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        if self.num_running >= self._most:
            raise ServerError(
                f"{self._most} requests are waiting or running, the most at once. Try again later.",
                status=429,
                retry_after=1,
            )
        self.num_running += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.num_running -= 1


class PageHeaders(Layer):
    """Tells a browser to load nothing from elsewhere, and to guess no types."""

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        policy = _DOCS_POLICY if scope["path"] == "/docs" else CONTENT_POLICY
        headers = [
            (b"content-security-policy", policy.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
        ]

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await self.app(scope, receive, with_headers)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _header(scope: Scope, name: bytes) -> str:
    found: bytes = next((value for key, value in scope["headers"] if key == name), b"")
    return found.decode("latin-1")
