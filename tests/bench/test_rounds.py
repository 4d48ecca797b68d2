"""Measurements in turn."""

import itertools
import time
from collections.abc import Callable

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


def test_no_round_begins_that_would_end_too_late() -> None:
    began = time.perf_counter()
    num_rounds = sum(1 for _ in rounds({"sleep": lambda: time.sleep(0.05) or 1.0}, seconds=0.5))  # type: ignore[func-returns-value]
    assert time.perf_counter() - began < 0.6
    assert FEWEST < num_rounds <= 10


def test_the_fewest_rounds_are_run_however_long_they_take() -> None:
    assert sum(1 for _ in rounds({"sleep": lambda: time.sleep(0.02) or 1.0}, seconds=0, fewest=5)) == 5  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("values", "median"), [([1.0], 1.0), ([3.0, 1.0, 100.0], 3.0), ([1.0, 2.0, 4.0, 8.0], 3.0)]
)
def test_one_bad_round_moves_the_highest_and_not_the_median(values: list[float], median: float) -> None:
    assert Spread.of(values) == Spread(median, min(values), max(values))
