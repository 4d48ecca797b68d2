"""The router: how probable it is that the weak model is as good, and whether that is enough for what it saves.

    Question -> features -> probability;    expected loss of score <= threshold x saved cost  ->  the weak model

A router is a directory: `router.json` says what it was made from and how it decides, `router.safetensors` has its
weights. Nothing in it is executed. Read next: `training.py`, which makes one; `malmoi/server/catalogue/routed.py`,
which asks it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from malmoi.core.config import from_mapping, to_mapping
from malmoi.core.errors import CheckpointError, ConfigError
from malmoi.core.files import atomic_write, read_json, write_json
from malmoi.router.cost import Cost
from malmoi.router.features import NAMES, NUM_BUCKETS, Features, features_of
from malmoi.router.logistic import sigmoid
from malmoi.router.question import Question

MANIFEST, WEIGHTS = "router.json", "router.safetensors"
FORMAT = "malmoi-router-1"
FARTHEST = 3.0

Vector = NDArray[np.float64]


class Decision(NamedTuple):
    """What a router says of a question.

    Attributes:
        is_weak: the weak model answers.
        probability: that it is as good as the strong one.
        needed: from which probability on it would answer; below 0 where anything is good enough, above 1 where nothing.
        urgency: the loss of score that the weak model is expected to bring, for each unit of cost that it saves.
    """

    is_weak: bool
    probability: float
    needed: float
    urgency: float


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a router is, for people and for `Router.load`.

    Attributes:
        format: which files and which features it is made of.
        features: the names of the numbers that it weighs.
        created: the day, as YYYY-MM-DD.
        data: the files that it was trained from.
        num_learned, num_held_out: rows of them.
        dial: how its threshold was asked for.
        gap: by how much the weak model is worse where it is worse, mean; scores are from 0 to 1.
        cost: what a call costs.
        penalty: that of the regression.
        log_loss, log_loss_of_constant: on the held-out rows, in nats: its own, and that of the mean alone.
        threshold: the loss of score that a unit of saved cost is worth.
        curve: the held-out rows' score at each tenth of strong calls.
    """

    features: tuple[str, ...]
    created: str
    data: tuple[str, ...]
    num_learned: int
    num_held_out: int
    dial: str
    gap: float
    cost: Cost
    penalty: float
    log_loss: float
    log_loss_of_constant: float
    threshold: float = 0.0
    curve: Mapping[str, float] = field(default_factory=dict)
    format: str = FORMAT


@dataclass(frozen=True, kw_only=True, eq=False)
class Router:
    """A trained router.

    Attributes:
        manifest: what it is.
        named: a weight for each of the features that have a name, which are counted in deviations from their mean.
        mean, scale: that of each, and its standard deviation, among the questions that it has learned from.
        buckets: a weight for each bucket of character runs.
        rarity: how much a run counts, by how few questions have it: the inverse document frequency.
        bias: what is added.
    """

    manifest: Manifest
    named: NDArray[np.float32]
    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    buckets: NDArray[np.float32]
    rarity: NDArray[np.float32]
    bias: float

    def probability(self, question: Question) -> float:
        """How probable it is that the weak model is as good as the strong one on this question."""
        features = features_of(question)
        score = self.named @ standardise(features.named, self.mean, self.scale) + self.bias
        score += self.buckets[features.buckets] @ weigh(features, self.rarity)
        return float(sigmoid(np.array([score], dtype=np.float64))[0])

    def decide(self, question: Question) -> Decision:
        """Which of the two models answers: the weak one, if the urgency is no more than the threshold."""
        manifest = self.manifest
        probability = self.probability(question)
        saved = manifest.cost.saved(question)
        urgency = (1.0 - probability) * manifest.gap / saved
        return Decision(
            is_weak=urgency <= manifest.threshold,
            probability=probability,
            needed=1.0 - manifest.threshold * saved / manifest.gap,
            urgency=urgency,
        )

    def save(self, directory: str | Path) -> None:
        """Write the two files, the manifest last. Raises CheckpointError if the disk does not let it."""
        directory = Path(directory)
        weights = {
            "named": self.named, "mean": self.mean, "scale": self.scale, "buckets": self.buckets, "rarity": self.rarity,
            "bias": np.array([self.bias], dtype=np.float32),
        }  # fmt: skip
        with atomic_write(directory / WEIGHTS, error=CheckpointError) as file:
            file.write_bytes(save(weights))
        write_json(directory / MANIFEST, to_mapping(self.manifest), error=CheckpointError)

    @classmethod
    def load(cls, directory: str | Path) -> "Router":
        """Read what `save` has written.

        Raises:
            CheckpointError: a file is missing or broken, or of a router of another version.
        """
        directory = Path(directory)
        said = read_json(directory / MANIFEST, error=CheckpointError)
        if said.get("format") != FORMAT:
            raise CheckpointError(
                f"{directory / MANIFEST} is of the format {said.get('format')!r:.40}, and this version reads {FORMAT}. "
                "Train the router again: malmoi router train."
            )
        try:
            manifest = from_mapping(Manifest, said, where=str(directory / MANIFEST))
        except ConfigError as error:
            raise CheckpointError(str(error)) from None
        numbers = [manifest.threshold, manifest.gap, manifest.cost.weak, manifest.cost.strong]
        if not np.isfinite(numbers).all() or manifest.gap <= 0:
            raise CheckpointError(
                f"{directory / MANIFEST} decides by {numbers} (threshold, gap, prices): each must be finite, "
                "and the gap above 0. Train the router again: malmoi router train."
            )
        if manifest.features != NAMES:
            raise CheckpointError(
                f"{directory / MANIFEST} weighs other features than this version has. Train the router again: malmoi "
                "router train."
            )
        try:
            weights = load((directory / WEIGHTS).read_bytes())
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{directory / WEIGHTS} cannot be read: {error}. Train the router again: malmoi router train."
            ) from None
        shapes = {
            **dict.fromkeys(("named", "mean", "scale"), (len(NAMES),)),
            **dict.fromkeys(("buckets", "rarity"), (NUM_BUCKETS,)),
            "bias": (1,),
        }
        if {name: array.shape for name, array in weights.items()} != shapes or not all(
            array.dtype == np.float32 and np.isfinite(array).all() for array in weights.values()
        ):
            raise CheckpointError(
                f"{directory / WEIGHTS} does not hold the weights of a router, finite and in fp32. Train the router "
                "again: malmoi router train."
            )
        bias = float(weights.pop("bias")[0])
        return cls(manifest=manifest, bias=bias, **weights)


def standardise(named: Vector, mean: NDArray[np.float32], scale: NDArray[np.float32]) -> Vector:
    """The named numbers in deviations from the mean, at most `FARTHEST`.

    A question that is unlike all that were judged is taken for one at their edge: further out nobody has judged any.

    >>> one = np.ones(1, dtype=np.float32)
    >>> standardise(np.array([2.5]), one, one).tolist(), standardise(np.array([-90.0]), one, one).tolist()
    ([1.5], [-3.0])
    """
    return np.clip((named - mean) / scale, -FARTHEST, FARTHEST)


def weigh(features: Features, rarity: NDArray[np.float32]) -> Vector:
    """The value of each bucket of a question: 1 + log of its count, times its rarity, all together of length 1."""
    values = (1.0 + np.log(features.counts)) * rarity[features.buckets]
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-12))
