"""How much whoever may ask may ask for: how large, how slowly, how often, and how many at once.

Each is a layer (`layer.py`). Place in the flow: `app.py` puts them on inside those of `access.py`, so nobody fills a
place before he may. Connections have limits of their own, in `connection.py`. Read next: `connection.py`.
"""

import asyncio
import ipaddress
import math
import time
from collections.abc import Callable, Hashable
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from malmoi.server.errors import ServerError
from malmoi.server.trust.access import CALLER
from malmoi.server.trust.layer import SAFE_METHODS, Layer, header, with_headers

MIN_BYTES_PER_SECOND = 16 * 1024
"""As fast as a body has to come, on the whole: a slow telephone's pace."""
LET_PASS_SECONDS = 1.0
"""So long the rest of a body that is refused may take, however slowly more of it comes."""
LET_PASS_MAX_PAUSE = 0.1
"""Seconds in which nothing of it comes, after which no more is waited for."""
MAX_CALLERS = 10_000
"""Of so many the rate is known; of more, those that have asked longest ago begin anew."""
_MINUTE = 60.0
_CLOSE = {"Connection": "close"}
"""The rest of a body is not waited for."""
_LITTLE = 1e-6  # of a token, which sums of seconds may be off


class LimitBody(Layer):
    """Takes no body of more than `max_bytes`, whatever its header says, and none that comes too slowly.

    A body has `max_pause` seconds more than it needs at `MIN_BYTES_PER_SECOND`, be they one pause or many. So a byte
    now and then does not hold a place.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_pause: float) -> None:
        super().__init__(app)
        self._max_bytes, self._max_pause = max_bytes, max_pause

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        said = header(scope, b"content-length")
        if said.isdecimal() and int(said) > self._max_bytes:
            if not header(scope, b"expect"):  # who asks before sending has sent nothing
                await _let_pass(receive)
            raise self._too_large()
        begin = time.monotonic()
        num_bytes = 0
        is_whole = False

        async def counted() -> Message:
            nonlocal num_bytes, is_whole
            if is_whole:  # what comes now is that the client goes away
                return await receive()
            end = begin + self._max_pause + num_bytes / MIN_BYTES_PER_SECOND
            try:
                async with asyncio.timeout(end - time.monotonic()):
                    message = await receive()
            except TimeoutError:
                raise ServerError(
                    f"after {time.monotonic() - begin:.1f} s there are {num_bytes} bytes of the body, and not all. "
                    "Send it again, faster.",
                    status=408,
                    headers=_CLOSE,
                ) from None
            num_bytes += len(message.get("body", b""))
            if num_bytes > self._max_bytes:
                await _let_pass(receive)
                raise self._too_large()
            is_whole = not message.get("more_body", False)
            return message

        await self.app(scope, counted, send)

    def _too_large(self) -> ServerError:
        return ServerError(
            f"the body has more than {self._max_bytes} bytes. Send less.", status=413, headers=_CLOSE
        )


async def _let_pass(receive: Receive) -> None:
    """Drop what is on its way, up to 1 MiB: a connection that is closed with bytes unread takes its answer along.

    It waits for no more than `LET_PASS_SECONDS` altogether. Python 3.11's `wait_for` would not do: it may swallow the
    cancellation of whoever waits outside it (python/cpython#86296), and a second would have no end.
    """
    num_bytes = 0
    end = time.monotonic() + LET_PASS_SECONDS
    with suppress(TimeoutError):
        while num_bytes < 2**20 and (left := end - time.monotonic()) > 0:
            async with asyncio.timeout(min(LET_PASS_MAX_PAUSE, left)):
                message = await receive()
            num_bytes += len(message.get("body", b""))
            if not message.get("more_body", False):
                return


class LimitRequests(Layer):
    """Works for at most `most` requests at once; another is told to come again. What only looks does not count."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        super().__init__(app)
        self._most, self.num_running = most, 0

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in SAFE_METHODS:
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


class LimitRate(Layer):
    """Takes `rate` requests a minute of each key, or of each address where no key is asked for: a token bucket.

    A bucket has room for `rate` tokens and fills evenly; a request takes one. All that is kept of it is the moment at
    which it will be full, so that a caller costs one number and one who has been quiet for a minute is like a new one.
    Every answer says in the headers that OpenAI's clients read how many tokens are left, and in how many seconds the
    bucket will be full; a refusal says in Retry-After when there will be one. What only looks does not count.
    """

    def __init__(self, app: ASGIApp, rate: int, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(app)
        self._rate, self._now = rate, now
        self._full_at: dict[Hashable, float] = {}

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in SAFE_METHODS:
            await self.app(scope, receive, send)
            return
        missing, wait = self._take(scope.get(CALLER) or _network(scope))
        headers = {
            "x-ratelimit-limit-requests": str(self._rate),
            "x-ratelimit-remaining-requests": str(math.floor(self._rate - missing + _LITTLE)),
            "x-ratelimit-reset-requests": f"{missing * _MINUTE / self._rate:.3f}s",
        }
        if wait > 0:
            seconds = math.ceil(wait)
            raise ServerError(
                f"{self._rate} requests a minute are allowed, and these are more. Try again in {seconds} s.",
                status=429,
                retry_after=seconds,
                headers=headers,
            )
        await self.app(scope, receive, with_headers(send, headers))

    def _take(self, caller: Hashable) -> tuple[float, float]:
        """Take a token if there is one: how many the bucket lacks then, and in how many seconds there will be one.

        Mutates the buckets.
        """
        now, each = self._now(), _MINUTE / self._rate
        full_at = max(self._full_at.pop(caller, now), now)
        missing = (full_at - now) / each
        is_there = missing + 1 <= self._rate + _LITTLE
        self._full_at[caller] = full_at + each if is_there else full_at
        if len(self._full_at) > MAX_CALLERS:  # the first is who was quiet longest, as others went to the end
            del self._full_at[next(iter(self._full_at))]
        return (missing + 1, 0.0) if is_there else (missing, (missing + 1 - self._rate) * each)


def _network(scope: Scope) -> str:
    """Who asks, by the address: of IPv6 the first half, as the other is the caller's to choose.

    >>> _network({"client": ("2001:db8:1:2:3:4:5:6", 80)}), _network({"client": ("192.0.2.1", 80)})
    ('2001:db8:1:2::/64', '192.0.2.1/32')
    """
    host = scope["client"][0] if scope.get("client") else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # a test's or a proxy's word
        return str(host)
    length = 64 if address.version == 6 else 32
    return str(ipaddress.ip_network((address, length), strict=False))
