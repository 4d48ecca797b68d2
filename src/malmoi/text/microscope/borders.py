"""Do tokens end where morphemes end? 학교|에서 keeps noun and particle apart, 학|교에서 does not.

    a text with the borders of its morphemes -> AGREEMENT with a tokenizer's -> comparison.py

Read first: `analysed.py`, where such texts come from. Read next: `comparison.py`.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from malmoi.text.microscope.analysed import Analysed, offsets
from malmoi.text.tokenizer import Tokenizer

_SPACE = b" \t\n\r\v\f"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Borders inside words: those of tokens, those of morphemes, and those that are both.

    `num_lost` texts do not come back from their ids, so that nobody can say where their tokens end: they are not in
    the other numbers.
    """

    num_common: int
    num_token_borders: int
    num_morpheme_borders: int
    num_lost: int

    @property
    def precision(self) -> float | None:
        """The share of the borders of tokens that are borders of morphemes; None without any."""
        return self.num_common / self.num_token_borders if self.num_token_borders else None

    @property
    def recall(self) -> float | None:
        """The share of the borders of morphemes at which a token ends; None without any."""
        return self.num_common / self.num_morpheme_borders if self.num_morpheme_borders else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of precision and recall; None if there is no border of either kind."""
        total = self.num_token_borders + self.num_morpheme_borders
        return 2 * self.num_common / total if total else None


def agree(tokenizer: Tokenizer, analysed: Sequence[Analysed]) -> Agreement:
    """Compare the borders of tokens with those of morphemes.

    Positions are bytes of the text without its spaces, so that a space may belong to the token before or after it, as
    tokenizers differ in that; a token that ends inside a syllable has a border there, which no morpheme has.

    >>> from malmoi.testing.tokenizer import ByteTokenizer
    >>> text = Analysed(text="집에 간다", borders=frozenset({0, 1, 3, 4}), words=((0, 2), (3, 5)))
    >>> agreement = agree(ByteTokenizer(), [text])
    >>> agreement.num_token_borders, agreement.recall, agreement.precision
    (10, 1.0, 0.2)
    """
    num_common = num_token_borders = num_morpheme_borders = num_lost = 0
    for one, ids in zip(analysed, tokenizer.encode_batch([one.text for one in analysed]), strict=True):
        pieces = [_spaceless(tokenizer.token_bytes(i, at_start=n == 0)) for n, i in enumerate(ids)]
        characters = [_spaceless(_spelled(tokenizer, character).encode()) for character in one.text]
        if b"".join(pieces) != b"".join(characters):
            num_lost += 1
            continue
        of_token, of_character = set(offsets(pieces)), offsets(characters)
        of_morpheme = {of_character[offset] for offset in one.borders}
        for start, end in one.words:
            inside = set(range(of_character[start] + 1, of_character[end]))
            num_common += len(inside & of_token & of_morpheme)
            num_token_borders += len(inside & of_token)
            num_morpheme_borders += len(inside & of_morpheme)
    return Agreement(
        num_common=num_common,
        num_token_borders=num_token_borders,
        num_morpheme_borders=num_morpheme_borders,
        num_lost=num_lost,
    )


def _spelled(tokenizer: Tokenizer, character: str) -> str:
    """A character as the tokens spell it: a tokenizer that takes syllables apart has tokens of jamo."""
    return unicodedata.normalize("NFD", character) if tokenizer.is_composing else character


def _spaceless(piece: bytes) -> bytes:
    return piece.translate(None, _SPACE)
