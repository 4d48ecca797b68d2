"""Requests to another machine: one pool of connections, retries before the first byte, and a breaker.

    Asked -> CLIENT.post -> a response that is good, to be read;  or a ServerError

A request is sent again only if no answer has begun: after a connection that failed, and after 429, 502, 503 and 504,
with pauses that grow and are drawn by lot, or as long as Retry-After says if that is short. Place in the flow:
`upstream.py` has one for each model. Read next: `breaker.py`.
"""

import asyncio
import json
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx2

from malmoi.server.catalogue.upstream.breaker import Attempt, Breaker
from malmoi.server.catalogue.upstream.events import MAX_ANSWER_BYTES, BrokenAnswer, WithheldAnswer
from malmoi.server.catalogue.upstream.settings import UpstreamSettings
from malmoi.server.errors import ServerError

AGAIN = frozenset({429, 502, 503, 504})
"""What may be otherwise in a moment."""
FIRST_PAUSE, MOST_PAUSE = 0.5, 10.0
"""Seconds before a request is sent again: the first, and the longest that whoever asks is kept waiting."""
MAX_ERROR_BYTES = 64 * 2**10
MAX_REST, REST_SECONDS = 64 * 2**10, 1.0
"""What may follow the end of an answer: characters, and how long they are waited for."""
MAX_CONNECTIONS = 256

_log = logging.getLogger("malmoi.server")


class Client:
    """Asks the machine of `settings` for the model `name`.

    Attributes:
        num_retries: how often a request was sent again.
    """

    def __init__(
        self, name: str, settings: UpstreamSettings, *, breaker: Breaker, first_pause: float = FIRST_PAUSE
    ) -> None:
        self.name, self.settings, self.breaker = name, settings, breaker
        self.num_retries = 0
        self._first_pause = first_pause
        self._http: httpx2.AsyncClient | None = None

    @asynccontextmanager
    async def request(
        self, method: str, url: str, body: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[httpx2.Response, None]:
        """A response of status 200, its body still to come. `url` is what follows that of the settings, or whole.

        What goes wrong while it is read, BrokenAnswer too, counts as a failure of that machine; WithheldAnswer, which
        anybody's question may bring, does not. Raises ServerError.
        """
        attempt, response = await self._answered(method, url, body)
        try:
            yield response
        except BrokenAnswer as problem:
            if not isinstance(problem, WithheldAnswer):
                attempt.fail()
            raise self._error(f"its answer {self._without_key(str(problem)):.400}", 502) from None
        except httpx2.TimeoutException as problem:
            attempt.fail()
            raise self._error(f"it was silent for {self.settings.timeout:g} s", 504) from problem
        except httpx2.TransportError as problem:
            attempt.fail()
            raise self._error("its answer was cut off before its end", 502) from problem
        finally:
            await response.aclose()

    async def json(self, method: str, url: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON object that comes back. Raises ServerError."""
        async with self.request(method, url, body) as response:
            data = bytearray()
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > MAX_ANSWER_BYTES:
                    raise BrokenAnswer(f"has more than {MAX_ANSWER_BYTES} bytes")
            try:
                found = json.loads(data)
            except (ValueError, RecursionError):
                found = None
            if not isinstance(found, dict):
                raise BrokenAnswer("is no JSON object")
        return found

    async def glance(self, url: str) -> tuple[int, Any]:
        """Status and JSON of what is there, None if it is none: asked once, and no word about that machine's health.

        Raises ServerError if nothing comes, and while that machine is left alone.
        """
        with self.breaker.attempt():  # of which nothing is said
            try:
                async with self._client().stream("GET", url) as response:
                    data = await _beginning(response)
            except (httpx2.TransportError, httpx2.InvalidURL):
                raise self._error("it cannot be reached", 502) from None
        try:
            return response.status_code, json.loads(data)
        except (ValueError, RecursionError):
            return response.status_code, None

    async def close(self) -> None:
        """Close all connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def _answered(
        self, method: str, url: str, body: Mapping[str, Any] | None
    ) -> tuple[Attempt, httpx2.Response]:
        """A response of status 200, and the try that brought it."""
        for number in range(self.settings.retries + 1):
            with self.breaker.attempt() as attempt:
                answer = await self._try(attempt, method, url, body)
            if isinstance(answer, httpx2.Response):
                return attempt, answer
            error, is_worth_another = answer
            pause = self._pause(number, error)
            if not is_worth_another or number == self.settings.retries or pause is None:
                raise error
            self.num_retries += 1
            await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def _try(
        self, attempt: Attempt, method: str, url: str, body: Mapping[str, Any] | None
    ) -> httpx2.Response | tuple[ServerError, bool]:
        """A good response, or what went wrong and whether to try again."""
        try:
            request = self._client().build_request(method, url, json=body)
        except UnicodeEncodeError:
            raise ServerError("the request holds half a character. Repair the text first.") from None
        try:
            response = await self._client().send(request, stream=True)
        except httpx2.ReadTimeout:
            attempt.fail()
            return self._error(f"it was silent for {self.settings.timeout:g} s", 504), False
        except httpx2.PoolTimeout:  # all are ours: that machine was not even asked
            return self._error("all connections to it are in use", 503, retry_after=1), False
        except (httpx2.TransportError, httpx2.InvalidURL) as problem:
            attempt.fail()
            # Its own words may quote a header, and with it the key.
            _log.warning("the upstream of %r: %s", self.name, type(problem).__name__)
            return self._error("it cannot be reached", 502), True
        if response.status_code == 200:
            attempt.succeed()
            return response
        try:
            error = self._refusal(response, await _beginning(response))
        except httpx2.TransportError:
            error = self._refusal(response, b"")
        finally:
            await response.aclose()
        if response.status_code >= 500:
            attempt.fail()
        else:
            attempt.succeed()
        return error, response.status_code in AGAIN

    def _client(self) -> httpx2.AsyncClient:
        if self._http is None:  # it belongs to the event loop of its first request
            key = {"Authorization": f"Bearer {self.settings.key}"} if self.settings.key else {}
            self._http = httpx2.AsyncClient(
                base_url=self.settings.url,
                headers={**key, "Accept-Encoding": "identity", "User-Agent": "malmoi"},
                timeout=httpx2.Timeout(self.settings.timeout, connect=self.settings.connect_timeout),
                limits=httpx2.Limits(max_connections=MAX_CONNECTIONS),
            )
        return self._http

    def _pause(self, number: int, error: ServerError) -> float | None:
        """Seconds before the next try; None: it is longer than anybody should be kept waiting."""
        if "Retry-After" in error.headers:
            asked = float(error.headers["Retry-After"])
            return asked if asked <= MOST_PAUSE else None
        longest = min(self._first_pause * 2**number, MOST_PAUSE)
        return random.uniform(longest / 2, longest)  # not all at the same moment

    def _refusal(self, response: httpx2.Response, content: bytes) -> ServerError:
        """What a response says that is not good."""
        status = response.status_code
        # What it says may quote the request, and the log is no place for that.
        _log.warning("the upstream of %r answers with %d", self.name, status)
        after = response.headers.get("Retry-After", "")
        retry_after = int(after) if after.isdecimal() and len(after) < 7 else None
        if status in (401, 403):
            return self._error("it refuses the key of this server, which is no fault of yours", 502)
        if 400 <= status < 500:
            return self._error(f"it says: {self._said(content)}", status, retry_after=retry_after)
        is_known = status in AGAIN
        return self._error(f"it answers with {status}", status if is_known else 502, retry_after=retry_after)

    def _said(self, content: bytes) -> str:
        """The message of an error, without our key, should it be in there."""
        text = content.decode("utf-8", "replace")
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        match said:
            case {"error": {"message": str(message)}} | {"error": str(message)} | {"message": str(message)}:
                text = message
            case {"detail": str(message)}:
                text = message
        return f"{self._without_key(text).strip() or 'nothing':.500}"

    def _without_key(self, text: str) -> str:
        return text.replace(self.settings.key, "...") if self.settings.key else text

    def _error(self, problem: str, status: int, *, retry_after: int | None = None) -> ServerError:
        return ServerError(
            f"the model {self.name!r} runs on another machine: {problem}.",
            status=status,
            code="upstream_error",
            retry_after=retry_after,
        )


async def read_rest(datas: AsyncIterator[str]) -> None:
    """Read what follows the end of an answer, as only a connection that was read to its end is used again."""
    num_characters = 0
    with suppress(TimeoutError, BrokenAnswer, httpx2.TransportError):
        async with asyncio.timeout(REST_SECONDS):
            async for data in datas:
                num_characters += len(data)
                if num_characters > MAX_REST:
                    return


async def _beginning(response: httpx2.Response) -> bytes:
    """As much of a body as an error may have."""
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > MAX_ERROR_BYTES:
            break
    return bytes(data[:MAX_ERROR_BYTES])
