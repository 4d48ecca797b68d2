"""Who may ask the server: whoever has a key, calls it by its name, and is no page of somebody else.

And what its own page may load. Each is a layer (`layer.py`), so that no endpoint can forget it. Place in the flow:
`app.py` puts them on. Read next: `limits.py`, how much each may ask for.
"""

import hashlib
import hmac
from collections.abc import Iterable

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from malmoi.server.errors import ServerError
from malmoi.server.trust.layer import SAFE_METHODS, Layer, header, with_headers

OPEN_PATHS = ("/", "/docs", "/health", "/ready")
"""What is answered without a key: the pages, which ask for one, and whether the server is well."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
CALLER = "malmoi.caller"
"""Where a request's scope says who asks: the digest of a key."""
EXPOSED_HEADERS = (
    "retry-after",
    "x-malmoi-model",
    "x-malmoi-why",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
)
"""What a page of another origin may read of an answer, besides its body."""
CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; frame-ancestors 'none'"
)


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
            kind, _, key = header(scope, b"authorization").partition(" ")
            key = key.strip(" ") if kind.lower() == "bearer" else header(scope, b"x-api-key")
            given = _digest(key.encode("latin-1"))
            # All are compared, so that the time tells nothing of which one was near.
            are_equal = [hmac.compare_digest(given, digest) for digest in self._digests]
            if not any(are_equal):
                raise ServerError("a key is missing or wrong. Send Authorization: Bearer KEY.", status=401)
            scope = {**scope, CALLER: given}
        await self.app(scope, receive, send)


class RequireHost(Layer):
    """Answers requests for these hosts alone: else any page in a browser could reach a server of this machine."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        super().__init__(app)
        self._hosts = frozenset(hosts)

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        said = header(scope, b"host")
        host = said[1:].partition("]")[0] if said.startswith("[") else said.partition(":")[0]
        if host.lower() not in self._hosts:
            raise ServerError(
                f"this server is not called {host!r}. Use one of: {', '.join(sorted(self._hosts))}.",
                status=421,
            )
        await self.app(scope, receive, send)


class RequireOrigin(Layer):
    """Does nothing for pages in a browser but our own and those of `origins`; "*": all.

    A page may send a form, or text, to any address without asking first. It cannot read the answer, and a model would
    have computed it. A browser says who asks, in headers that no page can write: Sec-Fetch-Site, and Origin in those
    that do not know the former. Whoever sends neither is no browser.
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        super().__init__(app)
        self._origins = frozenset(origins)

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in SAFE_METHODS and not self._is_known(scope):
            raise ServerError(
                f"a page of {header(scope, b'origin') or 'another site'} may not use this server. "
                "If it should, start the server with --cors ORIGIN.",
                status=403,
            )
        await self.app(scope, receive, send)

    def _is_known(self, scope: Scope) -> bool:
        origin, site = header(scope, b"origin"), header(scope, b"sec-fetch-site")
        if "*" in self._origins or origin in self._origins:
            return True
        if site:
            return site in ("same-origin", "none")  # none: the reader's own doing, no page's
        return not origin or origin.partition("://")[2] == header(scope, b"host")


class AllowOrigins(CORSMiddleware):
    """Tells browsers that pages of `origins` may ask, and read the answer; "*": all. They bring a key, no cookie.

    A browser asks for leave before, without a key, and is answered here (CORS, the Fetch standard).
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        super().__init__(
            app,
            allow_origins=tuple(origins),
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("*",),
            allow_private_network=True,
            expose_headers=EXPOSED_HEADERS,
        )


class PageHeaders(Layer):
    """Tells a browser to load nothing from elsewhere, and to guess no types."""

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {
            "content-security-policy": CONTENT_POLICY,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
        }
        await self.app(scope, receive, with_headers(send, headers))


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
