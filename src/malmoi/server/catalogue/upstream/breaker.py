"""A circuit breaker: who fails again and again is left alone for a while, and whoever asks is told so at once.

    closed --- most_failures within the window ---> open --- pause is over ---> half-open --- the probe's word --->
    closed or open again

Place in the flow: `client.py` asks before each try, and says how it went. Read next: `client.py`.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from malmoi.server.errors import ServerError

STATES = ("closed", "half-open", "open")
"""In the order of how bad they are."""


class Breaker:
    """Lets tries through while they succeed (Nygard 2007, "Release It!", section 5.2).

    Args:
        most_failures: so many within `window` seconds open it.
        pause: seconds that it is open. Then one try, the probe, goes through, and decides.
        now: the clock.

    >>> seconds = [0.0]
    >>> breaker = Breaker(most_failures=2, window=60, pause=30, now=lambda: seconds[0])
    >>> for _ in range(2):
    ...     with breaker.attempt() as attempt:
    ...         attempt.fail()
    >>> breaker.state
    'open'
    >>> seconds[0] = 30.0
    >>> breaker.state
    'half-open'
    >>> with breaker.attempt() as attempt:
    ...     attempt.succeed()
    >>> breaker.state
    'closed'
    """

    def __init__(
        self,
        *,
        most_failures: int = 5,
        window: float = 60.0,
        pause: float = 30.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._window, self._pause, self._now = window, pause, now
        self._failures: deque[float] = deque(maxlen=most_failures)
        self._opened_at: float | None = None
        self._probe: Attempt | None = None

    @property
    def state(self) -> str:
        """One of `STATES`."""
        if self._opened_at is None:
            return "closed"
        return "half-open" if self._now() >= self._opened_at + self._pause else "open"

    def attempt(self) -> "Attempt":
        """A try, whose end it wants to know (mutates the breaker). Raises ServerError (503) if none may be made now."""
        state = self.state
        if state == "open" or (state == "half-open" and self._probe is not None):
            assert self._opened_at is not None, "it is not closed"
            wait = max(1, math.ceil(self._opened_at + self._pause - self._now()))
            raise ServerError(
                f"the machine that this model runs on has failed again and again, and is left alone. Try again in "
                f"{wait} s.",
                status=503,
                code="upstream_open",
                retry_after=wait,
            )
        attempt = Attempt(self)
        if state == "half-open":
            self._probe = attempt
        return attempt

    def note(self, attempt: "Attempt", has_succeeded: bool | None) -> None:
        """How a try went; None: nobody knows, as whoever wanted it has gone (mutates the breaker)."""
        is_probe, now = attempt is self._probe, self._now()
        if is_probe:
            self._probe = None
            if has_succeeded:
                self._opened_at = None
                self._failures.clear()
            elif has_succeeded is False:
                self._opened_at = now
        elif has_succeeded is False and self._opened_at is None:
            self._failures.append(now)
            is_full = len(self._failures) == self._failures.maxlen
            if is_full and now - self._failures[0] <= self._window:
                self._opened_at = now


class Attempt:
    """One try. Within `with`, `succeed` or `fail` says how it went; neither: that it was given up."""

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker
        self._is_told = False

    def succeed(self) -> None:
        """It went well so far (mutates the breaker)."""
        self._tell(True)

    def fail(self) -> None:
        """It went wrong, even if it seemed well before (mutates the breaker)."""
        self._tell(False)

    def __enter__(self) -> "Attempt":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_told:
            self._tell(None)

    def _tell(self, has_succeeded: bool | None) -> None:
        self._is_told = True
        self._breaker.note(self, has_succeeded)
