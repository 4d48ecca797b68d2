"""Do tokens end where morphemes end? 학교|에서 keeps noun and particle apart, 학|교에서 does not.

    a text with the borders of its morphemes -> AGREEMENT with a tokenizer's -> comparison.py

The borders come from people, as a treebank of UD has them, or from the analyser Kiwi. Only borders inside a word, a run
of syllables, are compared: every tokenizer cuts at a space. Read next: `comparison.py`.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from malmoi.core.errors import DataError
from malmoi.text.hangul import SYLLABLES
from malmoi.text.morphemes import borders
from malmoi.text.tokenizer import Tokenizer

_WORD = re.compile(f"[{SYLLABLES}]+")
_SPACE = b" \t\n\r\v\f"
_FINALS = dict(
    zip(
        "ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ", map(chr, range(0x11A8, 0x11C3)), strict=True
    )
)
"""A consonant that stands alone in an analysis (이+ㅂ니다) is the final one of the syllable before."""


@dataclass(frozen=True, kw_only=True)
class Analysed:
    """A text, the offsets of characters at which a morpheme begins, and the words (start, end) that are judged."""

    text: str
    borders: frozenset[int]
    words: tuple[tuple[int, int], ...]


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


def analyse(texts: Iterable[str]) -> Iterator[Analysed]:
    """Find the borders with Kiwi and judge every word. Raises `TokenizerError` if kiwipiepy is not installed."""
    texts = list(texts)
    for text, offsets in zip(texts, borders(texts), strict=True):
        words = tuple(match.span() for match in _WORD.finditer(text))
        yield Analysed(text=text, borders=frozenset(offsets), words=words)


def read_analysed(fields: Mapping[str, Any], where: str) -> Analysed:
    """Take the borders from a row of a treebank: `text`, and its `tokens` as [form, morphemes joined by +, ...].

    A word is judged if its morphemes, joined, are what is written (서울+이+ㅂ니다 is 서울입니다); one that is
    contracted otherwise (하+었+다, written 했다) says nothing about where it could be cut. A border inside a syllable
    is none, for there is no place to cut.

    Raises:
        DataError: the row has other fields, or its tokens are not in the text.

    >>> row = {"text": "내 고향은 서울입니다.", "tokens": [["내", "내"], ["고향은", "고향+은"],
    ...     ["서울입니다", "서울+이+ㅂ니다"], [".", "."]]}
    >>> analysed = read_analysed(row, "kaist.jsonl:1")
    >>> sorted(analysed.borders), analysed.words
    ([0, 2, 4, 6, 8], ((0, 1), (2, 5), (6, 11)))
    """
    text, tokens = fields.get("text"), fields.get("tokens")
    if not isinstance(text, str) or not isinstance(tokens, list):
        raise DataError(
            f"{where}: a row with morphemes has a text and its tokens as [form, morphemes joined by +], but this one "
            f"has the fields {', '.join(fields) or 'none'}."
        )
    found: set[int] = set()
    words: list[tuple[int, int]] = []
    end = 0
    for token in tokens:
        if not (
            isinstance(token, list) and len(token) >= 2 and all(isinstance(part, str) for part in token[:2])
        ):
            raise DataError(f"{where}: the token {token!r} is not [form, morphemes joined by +].")
        form, morphemes = token[0], token[1].split("+")
        start = text.find(form, end)
        if start < 0:
            raise DataError(f"{where}: the token {form!r} is not in the text after character {end}.")
        end = start + len(form)
        if _WORD.fullmatch(form) and (starts := _starts(form, morphemes)) is not None:
            words.append((start, end))
            found.update(start + offset for offset in starts)
    return Analysed(text=text, borders=frozenset(found), words=tuple(words))


def _starts(form: str, morphemes: Sequence[str]) -> set[int] | None:
    """The offsets in `form` at which a morpheme begins, or None if `form` is not the morphemes, joined."""
    letters = [_letters(morpheme) for morpheme in morphemes]
    if "".join(letters) != unicodedata.normalize("NFD", form):
        return None
    of_letter = {at: index for index, at in enumerate(_offsets(map(_letters, form)))}
    return {of_letter[at] for at in _offsets(letters) if at in of_letter and of_letter[at] < len(form)}


def _letters(text: str) -> str:
    return "".join(_FINALS.get(character) or unicodedata.normalize("NFD", character) for character in text)


def _offsets(parts: Iterable[str | bytes]) -> list[int]:
    """Where each part begins in the whole, and where the last one ends."""
    return list(accumulate(map(len, parts), initial=0))


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
        of_token, of_character = set(_offsets(pieces)), _offsets(characters)
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
