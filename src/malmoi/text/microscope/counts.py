"""Tokens counted: of a genre, of the same content in two languages, of each of the 11,172 syllables.

    genre.py -> COUNTS -> comparison.py

Sums are kept and ratios are computed when asked for, so that counts of several genres add up. A token counts as often
as it stands in the text. Read next: `analysed.py`, `borders.py`.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain

from malmoi.text.hangul import LEADING, TRAILING, VOWELS
from malmoi.text.microscope.genre import Genre
from malmoi.text.tokenizer import Tokenizer

SYLLABLES = tuple(map(chr, range(ord("가"), ord("힣") + 1)))
"""The 11,172 syllables that modern Korean can write."""

_HALF_SYLLABLE = re.compile(rf"\A[{VOWELS}{TRAILING}]|[{LEADING}]\Z")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a tokenizer makes of a text.

    Attributes:
        num_tokens: of the text in NFC, as people type it.
        num_nfd_tokens: of the same text in NFD, as file names of a Mac and some PDF files have it.
        num_partial: those of `num_tokens` that cannot be shown alone: bytes that are no whole character, or jamo
            that are no whole syllable.
        num_exact: texts that come back from their ids unchanged.
        num_texts, num_characters, num_syllables, num_eojeols: of the text itself. The last two are 0 for a genre
            that is not Korean, whose few syllables would be divided by all its tokens.
    """

    num_tokens: int
    num_nfd_tokens: int
    num_partial: int
    num_exact: int
    num_texts: int
    num_characters: int
    num_syllables: int
    num_eojeols: int

    def __add__(self, other: "Counts") -> "Counts":
        both = {field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(self)}
        return Counts(**both)

    @property
    def tokens_per_syllable(self) -> float | None:
        return _ratio(self.num_tokens, self.num_syllables)

    @property
    def characters_per_token(self) -> float | None:
        return _ratio(self.num_characters, self.num_tokens)

    @property
    def tokens_per_eojeol(self) -> float | None:
        return _ratio(self.num_tokens, self.num_eojeols)

    @property
    def nfd_ratio(self) -> float | None:
        """Tokens in NFD by tokens in NFC: 1 if the tokenizer composes syllables first."""
        return _ratio(self.num_nfd_tokens, self.num_tokens)

    @property
    def partial_share(self) -> float | None:
        return _ratio(self.num_partial, self.num_tokens)

    @property
    def exact_share(self) -> float | None:
        return _ratio(self.num_exact, self.num_texts)


def count(tokenizer: Tokenizer, genre: Genre) -> Counts:
    """Count the tokens of a genre.

    >>> from malmoi.testing.tokenizer import ByteTokenizer
    >>> counts = count(ByteTokenizer(), Genre("words", ("말모이",)))
    >>> counts.num_tokens, counts.tokens_per_syllable, counts.nfd_ratio, counts.partial_share
    (9, 3.0, 2.3333333333333335, 1.0)
    """
    encoded = tokenizer.encode_batch(genre.texts)
    decomposed = tokenizer.encode_batch([unicodedata.normalize("NFD", text) for text in genre.texts])
    occurrences = Counter(chain.from_iterable(encoded))
    return Counts(
        num_tokens=occurrences.total(),
        num_nfd_tokens=sum(map(len, decomposed)),
        num_partial=sum(n for i, n in occurrences.items() if is_partial(tokenizer.token_bytes(i))),
        num_exact=sum(tokenizer.decode(ids) == text for ids, text in zip(encoded, genre.texts, strict=True)),
        num_texts=len(genre.texts),
        num_characters=genre.num_characters,
        num_syllables=genre.num_syllables if genre.is_korean else 0,
        num_eojeols=genre.num_eojeols if genre.is_korean else 0,
    )


def is_partial(piece: bytes) -> bool:
    """Say whether a token cannot be shown alone: it cuts a character, or a syllable that is spelled in jamo.

    >>> is_partial("학교".encode()), is_partial("학".encode()[:2]), is_partial("\u1112\u1161".encode())
    (False, True, False)
    >>> is_partial("\u11a8".encode()), is_partial("\u1112".encode())
    (True, True)
    """
    try:
        return _HALF_SYLLABLE.search(piece.decode()) is not None
    except UnicodeDecodeError:
        return True


@dataclass(frozen=True, kw_only=True)
class PairCounts:
    """The tokens of the same content in Korean and in English."""

    num_korean: int
    num_english: int

    @property
    def ratio(self) -> float | None:
        """How many times as many tokens the Korean takes: the surcharge, where 1 is none."""
        return _ratio(self.num_korean, self.num_english)


def count_pairs(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> PairCounts:
    """Count the tokens of (Korean, English) pairs.

    >>> from malmoi.testing.tokenizer import ByteTokenizer
    >>> count_pairs(ByteTokenizer(), [("안녕", "Hello")]).ratio
    1.2
    """
    korean, english = (tokenizer.encode_batch([pair[side] for pair in pairs]) for side in (0, 1))
    return PairCounts(num_korean=sum(map(len, korean)), num_english=sum(map(len, english)))


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Of the 11,172 syllables: how many are one token, and how many come back from their ids."""

    num_single: int
    num_exact: int


def cover(tokenizer: Tokenizer, syllables: Sequence[str] = SYLLABLES) -> Coverage:
    """Spell each syllable alone. A mark of a word's start (`▁`) that is a token of its own is not counted with it.

    >>> from malmoi.testing.tokenizer import ByteTokenizer
    >>> cover(ByteTokenizer())
    Coverage(num_single=0, num_exact=11172)
    """
    num_single = num_exact = 0
    for syllable, ids in zip(syllables, tokenizer.encode_batch(syllables), strict=True):
        if tokenizer.decode(ids) == syllable:
            pieces = [tokenizer.token_bytes(i, at_start=index == 0) for index, i in enumerate(ids)]
            num_exact += 1
            num_single += sum(piece != b"" for piece in pieces) == 1
    return Coverage(num_single=num_single, num_exact=num_exact)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
