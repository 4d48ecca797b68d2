"""What is said of the tokens of a text: a new row here is a new column in every table and file.

    counts.py -> MEASURES -> tables.py, export.py

Read next: `counts.py`, whose properties these are.
"""

from dataclasses import dataclass
from typing import Literal

from malmoi.text.microscope.counts import Counts


@dataclass(frozen=True)
class Measure:
    """A property of `Counts`: its name, its title for readers, how it is written and which end is good."""

    name: str
    title: str
    korean: str
    form: str
    better: Literal["lower", "higher"]

    def of(self, counts: Counts) -> float | None:
        """Return the figure, or None where there is nothing to divide by."""
        value: float | None = getattr(counts, self.name)
        return value


COSTS = (
    Measure("tokens_per_syllable", "tokens a syllable", "음절당 토큰", ".3f", "lower"),
    Measure("characters_per_token", "characters a token", "토큰당 글자", ".2f", "higher"),
    Measure("tokens_per_eojeol", "tokens an eojeol", "어절당 토큰", ".2f", "lower"),
    Measure("nfd_ratio", "NFD/NFC", "NFD/NFC 토큰", ".2f", "lower"),
)
"""How many tokens a text takes."""

SHAPES = (
    Measure("partial_share", "partial tokens", "조각 토큰", ".1%", "lower"),
    Measure("exact_share", "texts restored", "그대로 돌아온 글", ".1%", "higher"),
)
"""What the tokens are like."""

MEASURES = COSTS + SHAPES
