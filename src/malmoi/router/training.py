"""Judged rows -> a router: the weights from most of them, how to read them from those that are held out.

    JSONL -> judged.py -> features.py -> logistic.fit -> calibrate -> curve.py (where to cut) -> Router

The figures in the manifest are of the rows on which penalty, calibration and threshold were chosen; others are for
`report.py`, which is to be read next.
"""

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from malmoi.core.errors import ConfigError, DataError
from malmoi.router.cost import Cost
from malmoi.router.curve import Curve, route, scores_of
from malmoi.router.features import NAMES, NUM_BUCKETS, Features, features_of
from malmoi.router.judged import Judged, split
from malmoi.router.logistic import Rows, fit, log_loss
from malmoi.router.router import Manifest, Router, standardise, weigh

HELD_OUT_PERMILLE = 200
MIN_ROWS = 50
"""Of either part; with fewer, what is chosen on them is chance."""
PENALTIES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001, 0.00003, 0.00001)

Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Dial:
    """How much of the strong model is wanted; both are shares, 0 to 1.

    `kind="quality"`: as few strong calls as keep `value` of the strong model's score; `kind="strong-share"`: so many.

    >>> Dial(kind="quality", value=0.95).said
    'quality 0.95'
    """

    kind: Literal["quality", "strong-share"] = "quality"
    value: float = 0.95

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 1:
            raise ConfigError(f"{self.kind}={self.value:g} is out of range. Give a share from 0 to 1.")

    @property
    def said(self) -> str:
        return f"{self.kind} {self.value:g}"

    def share(self, curve: Curve) -> float:
        """The share of strong calls that it asks for."""
        return self.value if self.kind == "strong-share" else curve.share_for(self.value * curve.strong)


def train_router(
    judged: Sequence[Judged],
    *,
    dial: Dial,
    cost: Cost,
    data: Iterable[str] = (),
    on_step: Callable[[str], None] = lambda step: None,
) -> Router:
    """Fit a router. `data` names where the rows came from; `on_step` hears what it does.

    Raises:
        DataError: too few rows, or all of one kind, so that there is nothing to learn.
    """
    learned, held_out = split(judged, permille=HELD_OUT_PERMILLE)
    _require_both_kinds(learned, held_out)
    on_step("reading the questions")
    parts = [[features_of(one.question) for one in part] for part in (learned, held_out)]
    rarity, (mean, scale) = rarity_of(parts[0]), _mean_and_scale(parts[0])
    rows, held_rows = (_rows(part, rarity, mean, scale) for part in parts)
    labels, held_labels = (
        np.array([float(one.is_weak_as_good) for one in part]) for part in (learned, held_out)
    )
    best_loss, best_penalty, best = np.inf, PENALTIES[0], np.zeros(0)
    weights = None
    for penalty in PENALTIES:
        on_step(f"fitting with the penalty {penalty:g}")
        weights = fit(rows, labels, penalty=penalty, start=weights)
        scores = held_rows.times(weights)
        slope, shift = calibrate(scores, held_labels)
        loss = log_loss(slope * scores + shift, held_labels)
        if loss < best_loss:
            best_loss, best_penalty, best = loss, penalty, slope * weights
            best[-1] += shift
    weak, strong = scores_of(judged)
    constant = np.full(len(held_out), np.log(labels.mean() / (1 - labels.mean())))
    num_named = len(NAMES)
    router = Router(
        manifest=Manifest(
            features=NAMES,
            created=datetime.datetime.now(datetime.UTC).date().isoformat(),
            data=tuple(data),
            num_learned=len(learned),
            num_held_out=len(held_out),
            dial=dial.said,
            gap=float(np.mean((strong - weak)[strong > weak])),
            cost=cost,
            penalty=best_penalty,
            log_loss=best_loss,
            log_loss_of_constant=log_loss(constant, held_labels),
        ),
        named=best[:num_named].astype(np.float32),
        mean=mean,
        scale=scale,
        buckets=best[num_named:-1].astype(np.float32),
        rarity=rarity,
        bias=float(np.float32(best[-1])),
    )
    on_step("choosing the threshold")
    urgency = np.array([router.decide(one.question).urgency for one in held_out])
    curve = route(held_out, urgency)
    return replace(
        router,
        manifest=replace(
            router.manifest,
            threshold=threshold_at(urgency, dial.share(curve)),
            curve={f"{tenths / 10:.1f}": curve.at(tenths / 10) for tenths in range(11)},
        ),
    )


def calibrate(scores: Vector, labels: Vector) -> tuple[float, float]:
    """The slope and the shift of scores that make their probabilities true of these labels (Platt 1999).

    A penalty draws all probabilities to the mean; this draws them apart again.

    >>> slope, shift = calibrate(np.array([-1.0, -1.0, -1.0, 1.0, 1.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0, 1.0, 0.0]))
    >>> round(slope, 3), round(abs(shift), 3)                # 2 of 3 are right: log 2
    (0.693, 0.0)
    """
    places = np.arange(len(scores))
    alone = Rows(
        named=scores[:, None],
        columns=np.zeros_like(places),
        values=np.zeros(len(scores)),
        starts=places,
        num_columns=1,
    )
    slope, _, shift = fit(alone, labels, penalty=1e-6)
    return float(slope), float(shift)


def threshold_at(urgency: Vector, share: float) -> float:
    """The threshold above which `share` of these urgencies lie, or a little more where several are equal.

    >>> threshold_at(np.array([0.1, 0.2, 0.3, 0.4]), 0.5)
    0.25
    """
    falling = np.sort(urgency)[::-1]
    num_strong = int(np.ceil(share * len(falling) - 1e-9))
    while 0 < num_strong < len(falling) and falling[num_strong - 1] == falling[num_strong]:
        num_strong += 1
    if num_strong == 0:
        return float(falling[0])
    if num_strong == len(falling):  # no urgency is below 0
        return -1.0
    return float((falling[num_strong - 1] + falling[num_strong]) / 2)


def rarity_of(questions: Sequence[Features]) -> NDArray[np.float32]:
    """For each bucket log((1 + questions) / (1 + those that have it)) + 1."""
    having = np.bincount(np.concatenate([one.buckets for one in questions]), minlength=NUM_BUCKETS)
    return np.asarray(np.log((1 + len(questions)) / (1 + having)) + 1, dtype=np.float32)


def _mean_and_scale(questions: Sequence[Features]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean of each named number, and its standard deviation; 1 for one that never changes."""
    named = np.stack([one.named for one in questions])
    scale = named.std(axis=0)
    return named.mean(axis=0).astype(np.float32), np.where(scale > 1e-6, scale, 1.0).astype(np.float32)


def _rows(
    questions: Sequence[Features],
    rarity: NDArray[np.float32],
    mean: NDArray[np.float32],
    scale: NDArray[np.float32],
) -> Rows:
    return Rows.stack(
        [standardise(one.named, mean, scale) for one in questions],
        [(one.buckets, weigh(one, rarity)) for one in questions],
        num_columns=NUM_BUCKETS,
    )


def _require_both_kinds(learned: Sequence[Judged], held_out: Sequence[Judged]) -> None:
    for name, part in (("learn from", learned), ("hold out", held_out)):
        if len(part) < MIN_ROWS:
            raise DataError(
                f"there are {len(part)} rows to {name}, and fewer than {MIN_ROWS} tell nothing. Judge more questions."
            )
        num_good = sum(one.is_weak_as_good for one in part)
        if num_good in (0, len(part)):
            verdict = "as good" if num_good else "worse"
            model = "weak" if num_good else "strong"
            raise DataError(
                f"on all {len(part)} rows to {name} the weak model is {verdict}, so there is nothing to route. Use the "
                f"{model} one for everything, or judge other questions."
            )
