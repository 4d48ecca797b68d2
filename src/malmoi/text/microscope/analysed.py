"""Where morphemes begin in a text: people say it, as a treebank of UD has it, or the analyser Kiwi does.

    a text, or a row of a treebank -> ANALYSED -> borders.py

Only borders inside a word, a run of syllables, are found: every tokenizer cuts at a space. Read next: `borders.py`.
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

_WORD = re.compile(f"[{SYLLABLES}]+")
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


def analyse(texts: Iterable[str]) -> Iterator[Analysed]:
    """Find the borders with Kiwi and judge every word. Raises `TokenizerError` if kiwipiepy is not installed."""
    texts = list(texts)
    for text, found in zip(texts, borders(texts), strict=True):
        words = tuple(match.span() for match in _WORD.finditer(text))
        yield Analysed(text=text, borders=frozenset(found), words=words)


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
    of_letter = {at: index for index, at in enumerate(offsets(map(_letters, form)))}
    return {of_letter[at] for at in offsets(letters) if at in of_letter and of_letter[at] < len(form)}


def _letters(text: str) -> str:
    return "".join(_FINALS.get(character) or unicodedata.normalize("NFD", character) for character in text)


def offsets(parts: Iterable[str | bytes]) -> list[int]:
    """Where each part begins in the whole, and where the last one ends.

    >>> offsets(["학교", "에서"])
    [0, 2, 4]
    """
    return list(accumulate(map(len, parts), initial=0))
