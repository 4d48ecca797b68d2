"""Score against calls of the strong model: of a router, of chance, and of one that knows the outcome.

    Judged, how much each question needs the strong one -> CURVE -> training.py (where to cut), report.py

A curve begins where no question goes to the strong model and ends where all do. Questions go over in the order of their
urgency, the most urgent first. Read next: `report.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malmoi.router.judged import Judged

Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """The mean score at each share of strong calls, both rising from 0: `scores[0]` is the weak model's alone.

    >>> from malmoi.router.question import Question
    >>> easy = Judged(question=Question(text="1 + 1"), weak=1, strong=1)
    >>> hard = Judged(question=Question(text="1 + 1 + 1"), weak=0, strong=1)
    >>> curve = route([easy, hard], np.array([0.1, 0.9]))
    >>> curve.scores.tolist(), curve.performance_gap_recovered, curve.share_for(1.0)
    ([0.5, 1.0, 1.0], 0.75, 0.5)
    """

    shares: Vector
    scores: Vector

    @property
    def weak(self) -> float:
        """The score of the weak model alone."""
        return float(self.scores[0])

    @property
    def strong(self) -> float:
        """The score of the strong model alone."""
        return float(self.scores[-1])

    @property
    def gain_over_chance(self) -> float:
        """The area between the curve and chance, which is the straight line between its ends: a mean score."""
        return self._mean() - (self.weak + self.strong) / 2

    @property
    def performance_gap_recovered(self) -> float:
        """Of the gap between both models, the part that is recovered, mean over all shares; 0.5 is chance.

        It is the APGR of RouteLLM (Ong et al. 2024, arXiv:2406.18665); our difference: at every question, not at some
        thresholds. NaN where the strong model is not the better one.
        """
        gap = self.strong - self.weak
        return (self._mean() - self.weak) / gap if gap > 0 else float("nan")

    def at(self, share: float) -> float:
        """The score where `share` of the calls are strong."""
        return float(np.interp(share, self.shares, self.scores))

    def share_for(self, score: float) -> float:
        """The share of strong calls from which on the curve has at least `score`; 1 where only its end has.

        With the score at which x % of the gap is recovered it is CPT(x %) of RouteLLM; our difference: the curve stays
        there, where theirs asks for the first time.
        """
        below = np.flatnonzero(self.scores < score - 1e-12)
        return float(self.shares[min(below[-1] + 1, len(self.shares) - 1)]) if below.size else 0.0

    def share_to_recover(self, part: float) -> float:
        """`share_for` the weak model's score and `part` of what the strong one has more."""
        return self.share_for(self.weak + part * (self.strong - self.weak))

    def _mean(self) -> float:
        return float(np.sum(np.diff(self.shares) * (self.scores[1:] + self.scores[:-1]) / 2))


def route(judged: Sequence[Judged], urgency: Vector, times: NDArray[np.int64] | None = None) -> Curve:
    """The curve of a router that sends the most urgent to the strong model first; `times` repeats questions."""
    order = np.argsort(-urgency, kind="stable")
    weak, strong = scores_of(judged)
    repeats = np.ones(len(judged)) if times is None else times.astype(np.float64)
    total = repeats.sum()
    gains = np.cumsum((repeats * (strong - weak))[order])
    return Curve(
        shares=np.concatenate([[0.0], np.cumsum(repeats[order]) / total]),
        scores=(float(repeats @ weak) + np.concatenate([[0.0], gains])) / total,
    )


def oracle(judged: Sequence[Judged]) -> Curve:
    """The best curve there can be: that of a router that has seen both answers."""
    weak, strong = scores_of(judged)
    return route(judged, strong - weak)


def gain_interval(
    judged: Sequence[Judged], urgency: Vector, *, num_resamples: int = 400, seed: int = 0
) -> tuple[float, float]:
    """The middle 95 % of `gain_over_chance` over resampled questions (the bootstrap): how sure a comparison is."""
    draws = np.random.default_rng(seed)
    size = len(judged)
    gains = [
        route(judged, urgency, draws.multinomial(size, np.full(size, 1 / size))).gain_over_chance
        for _ in range(num_resamples)
    ]
    low, high = np.quantile(gains, [0.025, 0.975])
    return float(low), float(high)


def scores_of(judged: Sequence[Judged]) -> tuple[Vector, Vector]:
    """What the weak model scored on each question, and the strong one."""
    scores = np.array([(one.weak, one.strong) for one in judged], dtype=np.float64)
    return scores[:, 0], scores[:, 1]
