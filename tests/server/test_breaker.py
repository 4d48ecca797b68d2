"""The breaker is a machine of three states, whatever happens in whatever order."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from malmoi.server.catalogue.upstream.breaker import STATES, Attempt, Breaker
from malmoi.server.errors import ServerError

MOST, WINDOW, PAUSE = 3, 10.0, 5.0


class BreakerMachine(RuleBasedStateMachine):
    """Beside the breaker, its rules written down in the plainest way."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = Breaker(most_failures=MOST, window=WINDOW, pause=PAUSE, now=lambda: self.now)
        self.failures: list[float] = []
        self.opened_at: float | None = None
        self.probe: Attempt | None = None
        self.running: list[Attempt] = []

    @property
    def state(self) -> str:
        if self.opened_at is None:
            return "closed"
        return "half-open" if self.now >= self.opened_at + PAUSE else "open"

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 6.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def somebody_tries(self) -> None:
        may = self.state == "closed" or (self.state == "half-open" and self.probe is None)
        if not may:
            with pytest.raises(ServerError) as caught:
                self.breaker.attempt()
            assert caught.value.status == 503
            assert 1 <= int(caught.value.headers["Retry-After"]) <= PAUSE
            return
        attempt = self.breaker.attempt()
        if self.state == "half-open":
            self.probe = attempt
        self.running.append(attempt)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), end=st.sampled_from(["succeed", "fail", "leave"]))
    def a_try_ends(self, data: Any, end: str) -> None:
        attempt = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        is_probe = attempt is self.probe
        with attempt:
            if end != "leave":
                getattr(attempt, end)()
        if is_probe:
            self.probe = None
            if end == "succeed":
                self.opened_at, self.failures = None, []
            elif end == "fail":
                self.opened_at = self.now
        elif end == "fail" and self.opened_at is None:
            self.failures = [one for one in [*self.failures, self.now] if self.now - one <= WINDOW]
            if len(self.failures) >= MOST:
                self.opened_at = self.now

    @invariant()
    def states_agree(self) -> None:
        assert self.breaker.state == self.state
        assert self.state in STATES


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_an_answer_that_breaks_behind_its_beginning_counts() -> None:
    breaker = Breaker(most_failures=2)
    attempts = [breaker.attempt() for _ in range(2)]
    for attempt in attempts:
        with attempt:
            attempt.succeed()
        attempt.fail()
    assert breaker.state == "open"
