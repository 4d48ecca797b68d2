"""Logistic regression with an L2 penalty, on rows that are mostly zeros: in numpy, to the bottom of a convex function.

    Rows, labels -> FIT -> one weight a column -> router.py

The loss is a sigmoid's cross-entropy, mean over rows, plus `penalty` / 2 times the squares of the weights. It has one
minimum, so it needs no seed and no learning rate. Read next: `training.py`, which makes the rows.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A matrix: some columns that every row has a number in, and many in which only a few have one.

    Attributes:
        named: (rows, named columns).
        columns, values: the other numbers of all rows end to end, and their columns, counted from 0 behind the named.
        starts: where each row begins in them; every row has one at least.
        num_columns: of the others.
    """

    named: Vector
    columns: NDArray[np.int64]
    values: Vector
    starts: NDArray[np.int64]
    num_columns: int

    @classmethod
    def stack(
        cls, named: Sequence[Vector], others: Sequence[tuple[NDArray[np.int64], Vector]], *, num_columns: int
    ) -> "Rows":
        """Rows from their parts: the named numbers of each, and its (columns, values)."""
        sizes = [len(columns) for columns, _ in others]
        return cls(
            named=np.stack(named),
            columns=np.concatenate([columns for columns, _ in others]),
            values=np.concatenate([values for _, values in others]),
            starts=np.cumsum([0, *sizes[:-1]]),
            num_columns=num_columns,
        )

    def __len__(self) -> int:
        return len(self.named)

    def times(self, weights: Vector) -> Vector:
        """The product with a weight for each column, and one more that is added: (rows,)."""
        num_named = self.named.shape[1]
        scores = np.add.reduceat(self.values * weights[num_named:-1][self.columns], self.starts)
        return np.asarray(self.named @ weights[:num_named] + scores + weights[-1])

    def transposed_times(self, residuals: Vector) -> Vector:
        """The product of the transpose with a number for each row: (columns + 1,)."""
        sizes = np.diff([*self.starts, len(self.columns)])
        spread = self.values * np.repeat(residuals, sizes)
        others = np.bincount(self.columns, weights=spread, minlength=self.num_columns)
        return np.concatenate([self.named.T @ residuals, others, [residuals.sum()]])


def sigmoid(scores: Vector) -> Vector:
    """1 / (1 + e^-x), without an overflow at either end.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    small = np.exp(-np.abs(scores))
    return np.where(scores >= 0, 1.0, small) / (1.0 + small)


def log_loss(scores: Vector, labels: Vector) -> float:
    """The mean cross-entropy of labels from 0 to 1, in nats.

    >>> round(log_loss(np.zeros(4), np.array([0.0, 1.0, 1.0, 0.0])), 4)
    0.6931
    """
    return float(np.mean(np.logaddexp(0.0, scores) - labels * scores))


def objective(weights: Vector, rows: Rows, labels: Vector, penalty: float) -> tuple[float, Vector]:
    """What `fit` makes small, and its gradient. The last weight is added to every score, and free of the penalty."""
    scores = rows.times(weights)
    punished = np.append(weights[:-1], 0.0)
    loss = log_loss(scores, labels) + penalty / 2 * float(punished @ punished)
    return loss, rows.transposed_times((sigmoid(scores) - labels) / len(rows)) + penalty * punished


def fit(
    rows: Rows,
    labels: Vector,
    *,
    penalty: float,
    start: Vector | None = None,
    tolerance: float = 1e-5,
    max_steps: int = 500,
) -> Vector:
    """The weights with the least loss: one a column, and one that is added.

    By L-BFGS (Liu and Nocedal 1989) with ten pairs of differences, each step halved until it lowers the loss enough.

    Args:
        rows: what is known of each example.
        labels: from 0 to 1.
        penalty: above 0, so that there is one minimum.
        start: weights to begin with, such as those of another penalty. None: zeros.
        tolerance: it ends where no part of the gradient is larger.
        max_steps: it ends there at the latest; on a convex function that is near enough.
    """
    weights = np.zeros(rows.named.shape[1] + rows.num_columns + 1) if start is None else start
    loss, gradient = objective(weights, rows, labels, penalty)
    pairs: deque[tuple[Vector, Vector]] = deque(maxlen=10)
    for _ in range(max_steps):
        if np.abs(gradient).max() < tolerance:
            break
        direction = -_times_inverse_hessian(gradient, pairs)
        slope, step = float(gradient @ direction), 1.0
        while True:
            moved = weights + step * direction
            new_loss, new_gradient = objective(moved, rows, labels, penalty)
            if new_loss <= loss + 1e-4 * step * slope:
                break
            if step < 1e-10:  # no lower loss can be told apart from this one
                return weights
            step /= 2
        pairs.append((moved - weights, new_gradient - gradient))
        weights, loss, gradient = moved, new_loss, new_gradient
    return weights


def _times_inverse_hessian(gradient: Vector, pairs: Sequence[tuple[Vector, Vector]]) -> Vector:
    """The two loops of L-BFGS: about the Newton step, from how the gradient has changed over the last steps."""
    result, shares = gradient.copy(), []
    for moved, changed in reversed(pairs):
        shares.append(float(moved @ result) / float(moved @ changed))
        result -= shares[-1] * changed
    if pairs:
        moved, changed = pairs[-1]
        result *= float(moved @ changed) / float(changed @ changed)
    for (moved, changed), share in zip(pairs, reversed(shares), strict=True):
        result += (share - float(changed @ result) / float(moved @ changed)) * moved
    return result
