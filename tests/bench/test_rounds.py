"""Measurements in turn."""

import itertools
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from malmoi.bench.rounds import FEWEST, Spread, rounds


def test_in_a_round_each_has_one_turn_in_its_order() -> None:
    turns: list[str] = []

    def measurement(name: str) -> Callable[[], float]:
        return lambda: turns.append(name) or len(turns)  # type: ignore[func-returns-value]

    heard: list[tuple[int, str]] = []
    done = list(
        rounds(
            {name: measurement(name) for name in "abc"},
            seconds=0,
            on_turn=lambda number, name: heard.append((number, name)),
        )
    )
    assert turns == list("abc") * FEWEST
    assert done[1] == {"a": 4, "b": 5, "c": 6}
    assert heard == list(itertools.product(range(1, FEWEST + 1), "abc"))


@pytest.mark.parametrize(
    ("seconds", "fewest", "expected"), [(6.0, 1, 6), (6.9, 1, 6), (0.0, 5, 5), (4.0, 5, 5)]
)
def test_no_round_begins_that_would_end_too_late_but_the_fewest_are_run(
    monkeypatch: pytest.MonkeyPatch, seconds: float, fewest: int, expected: int
) -> None:
    now = [0.0]

    def one_second() -> float:
        now[0] += 1
        return 1.0

    monkeypatch.setattr("malmoi.bench.rounds.time", SimpleNamespace(perf_counter=lambda: now[0]))
    assert sum(1 for _ in rounds({"second": one_second}, seconds=seconds, fewest=fewest)) == expected


@pytest.mark.parametrize(
    ("values", "median"), [([1.0], 1.0), ([3.0, 1.0, 100.0], 3.0), ([1.0, 2.0, 4.0, 8.0], 3.0)]
)
def test_one_bad_round_moves_the_highest_and_not_the_median(values: list[float], median: float) -> None:
    assert Spread.of(values) == Spread(median, min(values), max(values))
