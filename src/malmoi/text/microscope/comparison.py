"""Several tokenizers on the same text: what is measured, and the measurement.

    genres, pairs, analysed texts -> EXAMINE each tokenizer -> COMPARISON -> tables.py, page.py

Read next: `counts.py` and `borders.py`, which do the counting, and `tables.py`, which shows it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add

from malmoi.text.hangul import num_syllables
from malmoi.text.microscope.analysed import Analysed
from malmoi.text.microscope.borders import Agreement, agree
from malmoi.text.microscope.counts import Counts, Coverage, PairCounts, count, count_pairs, cover
from malmoi.text.microscope.genre import Genre
from malmoi.text.microscope.prices import Bill, PriceTable
from malmoi.text.tokenizer import Tokenizer

_SENTENCE = re.compile(r"[^\n.!?]{15,70}[.!?](?=\s|\Z)")


@dataclass(frozen=True)
class Piece:
    """A token as it stands in a sentence: its id, and the bytes that it adds."""

    token: int
    bytes: bytes


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What the microscope found of one tokenizer.

    `counts` are by the name of the genre; `korean` is the sum over the Korean ones, or None if there is none. `pairs`
    and `agreement` are None where no such text was given. `sentences` are those of the material, by genre.
    """

    name: str
    vocab_size: int
    counts: Mapping[str, Counts]
    korean: Counts | None
    coverage: Coverage
    pairs: PairCounts | None
    agreement: Agreement | None
    sentences: Mapping[str, tuple[Piece, ...]]


@dataclass(frozen=True, kw_only=True)
class Material:
    """What every tokenizer is measured on. `morphemes_from` says who found the borders in `analysed`."""

    genres: tuple[Genre, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    analysed: tuple[Analysed, ...] = ()
    morphemes_from: str = ""

    @cached_property
    def sentences(self) -> Mapping[str, str]:
        """A sentence to look at for each genre that has one: the first that is neither short nor long."""
        return {genre.name: found for genre in self.genres if (found := _sentence(genre)) is not None}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The tokenizers, what they were measured on, and the prices."""

    material: Material
    tokenizers: tuple[Examined, ...]
    prices: PriceTable

    def bills(self, examined: Examined) -> list[Bill]:
        """Return what a thousand syllables of the Korean genres cost with one of them, at each price that is for it."""
        rate = examined.korean.tokens_per_syllable if examined.korean else None
        return [] if rate is None else self.prices.bills(examined.name, rate)


def examine(name: str, tokenizer: Tokenizer, material: Material) -> Examined:
    """Measure one tokenizer.

    >>> from malmoi.testing.tokenizer import ByteTokenizer
    >>> material = Material(genres=(Genre("news", ("말모이는 우리말을 모으는 일이다.",)),))
    >>> found = examine("bytes", ByteTokenizer(), material)
    >>> found.counts["news"].num_tokens, found.korean == found.counts["news"], found.coverage.num_single
    (46, True, 0)
    """
    counts = {genre.name: count(tokenizer, genre) for genre in material.genres}
    of_korean = [counts[genre.name] for genre in material.genres if genre.is_korean]
    return Examined(
        name=name,
        vocab_size=tokenizer.vocab_size,
        counts=counts,
        korean=reduce(add, of_korean) if of_korean else None,
        coverage=cover(tokenizer),
        pairs=count_pairs(tokenizer, material.pairs) if material.pairs else None,
        agreement=agree(tokenizer, material.analysed) if material.analysed else None,
        sentences={genre: _look(tokenizer, sentence) for genre, sentence in material.sentences.items()},
    )


def _look(tokenizer: Tokenizer, sentence: str) -> tuple[Piece, ...]:
    ids = tokenizer.encode(sentence)
    return tuple(Piece(i, tokenizer.token_bytes(i, at_start=n == 0)) for n, i in enumerate(ids))


def _sentence(genre: Genre) -> str | None:
    found = (match[0].strip() for text in genre.texts for match in _SENTENCE.finditer(text))
    return next((one for one in found if not genre.is_korean or 2 * num_syllables(one) > len(one)), None)
