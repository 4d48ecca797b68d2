"""What a router is worth: its curve on judged rows beside chance and the oracle, and whether its numbers are true.

    Router, Judged (others than it was trained on) -> REPORT -> the terminal, page.py, plot.py

Read next: `curve.py`, the measures; `page.py`, what it looks like.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from malmoi.core.errors import DataError
from malmoi.router.curve import Curve, gain_interval, oracle, route, scores_of
from malmoi.router.features import language_of
from malmoi.router.judged import Judged
from malmoi.router.router import Manifest, Router

LANGUAGES = ("ko", "en", "code", "other")
NUM_BINS = 10
Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of some questions at the router's threshold.

    Attributes:
        num: how many they are.
        strong_share: of them, those that went to the strong model.
        cost_share: what they cost, of what they had cost on the strong model alone.
        score: the mean score of the answers; `weak` and `strong`: that of each model alone.
    """

    num: int
    strong_share: float
    cost_share: float
    score: float
    weak: float
    strong: float

    @property
    def chance(self) -> float:
        """The score of as many strong calls on questions drawn at random."""
        return self.weak + self.strong_share * (self.strong - self.weak)


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Questions of nearly one probability, and how many of them the weak model was as good on."""

    num: int
    said: float
    found: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """A router on judged rows.

    Attributes:
        manifest: which router.
        at_threshold: of all rows; `by_language`: of those in each language that there is.
        curve, oracle: of the router, and the best there can be.
        gain_interval: 95 % of the resampled `curve.gain_over_chance`.
        bins: how true the probabilities are.
    """

    manifest: Manifest
    at_threshold: Outcome
    by_language: dict[str, Outcome]
    curve: Curve
    oracle: Curve
    gain_interval: tuple[float, float]
    bins: tuple[Bin, ...]

    @property
    def calibration_error(self) -> float:
        """How far what was said lies from what was found, mean over questions (Guo et al. 2017, arXiv:1706.04599)."""
        return sum(one.num * abs(one.said - one.found) for one in self.bins) / sum(
            one.num for one in self.bins
        )

    @property
    def verdict(self) -> str:
        """In a sentence: is it better than chance?"""
        low, high = self.gain_interval
        numbers = (
            f"over all shares of strong calls its score differs by {self.curve.gain_over_chance:+.4f} from that of "
            f"routing at random (95 % of resamplings: {low:+.4f} to {high:+.4f})"
        )
        if self.curve.strong <= self.curve.weak:
            return f"The strong model is not the better one on these rows, so there is nothing to route; {numbers}."
        if low > 0:
            return f"The router is better than chance: {numbers}."
        if high < 0:
            return f"The router is WORSE than chance: {numbers}. Do not use it."
        return f"The router is NOT shown to be better than chance: {numbers}. Judge more questions, or do without."


def report(router: Router, judged: Sequence[Judged]) -> Report:
    """Measure a router on judged rows. Raises DataError for no rows."""
    if not judged:
        raise DataError("there are no judged rows to report on. Give a file that has some.")
    decisions = [router.decide(one.question) for one in judged]
    cost = router.manifest.cost
    saved = np.array([cost.saved(one.question) for one in judged])
    urgency = np.array([decision.urgency for decision in decisions])
    is_strong = np.array([not decision.is_weak for decision in decisions])
    probabilities = np.array([decision.probability for decision in decisions])
    languages = np.array([language_of(one.question) for one in judged])
    groups = {name: languages == name for name in LANGUAGES if (languages == name).any()}
    everything = np.ones(len(judged), dtype=bool)
    dear = saved * cost.strong / (cost.strong - cost.weak)
    return Report(
        manifest=router.manifest,
        at_threshold=_outcome(judged, is_strong, saved, dear, everything),
        by_language={name: _outcome(judged, is_strong, saved, dear, rows) for name, rows in groups.items()},
        curve=route(judged, urgency),
        oracle=oracle(judged),
        gain_interval=gain_interval(judged, urgency),
        bins=_bins(probabilities, np.array([one.is_weak_as_good for one in judged])),
    )


def _outcome(
    judged: Sequence[Judged],
    is_strong: NDArray[np.bool_],
    saved: Vector,
    dear: Vector,
    rows: NDArray[np.bool_],
) -> Outcome:
    """What came of the questions in `rows`; `dear` is what each costs on the strong model."""
    weak, strong = (scores[rows] for scores in scores_of(judged))
    went, saved, dear = is_strong[rows], saved[rows], dear[rows]
    return Outcome(
        num=len(weak),
        strong_share=float(went.mean()),
        cost_share=float(1.0 - (saved * ~went).sum() / dear.sum()),
        score=float(np.where(went, strong, weak).mean()),
        weak=float(weak.mean()),
        strong=float(strong.mean()),
    )


def _bins(probabilities: Vector, is_good: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """As many questions in each, from the least probable up, so that none is empty."""
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, NUM_BINS) if part.size]
    return tuple(
        Bin(num=part.size, said=float(probabilities[part].mean()), found=float(is_good[part].mean()))
        for part in parts
    )
