"""Measurements in turn, A B C A B C ..., and what is said of them: medians, with the lowest and the highest.

A machine that other work shares swings by a factor of four within minutes. Who measures A for a minute and then B
compares two minutes; in a round all see the same weather, and the median of the ratios within rounds compares them.
Read next: `report.py`, which runs them.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

FEWEST = 3
"""Rounds below which a median says nothing."""


@dataclass(frozen=True)
class Spread:
    """A number that was measured several times: the median, the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Of one value at least.

        >>> Spread.of([3.0, 1.0, 2.5])
        Spread(median=2.5, low=1.0, high=3.0)
        """
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])


def rounds(
    measurements: Mapping[str, Callable[[], float]],
    *,
    seconds: float,
    fewest: int = FEWEST,
    on_turn: Callable[[int, str], None] = lambda number, name: None,
) -> Iterator[dict[str, float]]:
    """Yield what each measurement gave, round by round, until another would probably end after `seconds`.

    `fewest` rounds are run however long they take. `on_turn` hears the round's number, from 1, and whose turn it is.

    >>> next(rounds({"a": lambda: 1.0, "b": lambda: 2.0}, seconds=0))
    {'a': 1.0, 'b': 2.0}
    """
    began = time.perf_counter()
    number, spent = 0, 0.0
    while number < fewest or spent * (number + 1) / number <= seconds:
        number += 1
        measured = {}
        for name, measure in measurements.items():
            on_turn(number, name)
            measured[name] = measure()
        yield measured
        spent = time.perf_counter() - began
