"""Who wrote each character of a rendered chat: the template, or the content of the messages?

A special token's string in the content must stay plain text, and a loss mask has to know where the assistant's
words are. Templates trim, split, join and quote content, so positions cannot be predicted. Instead the content
is written in ink: each character becomes a private-use character that stands for (author, character). It passes
through the template as the text would have, and every piece that comes out says who wrote it, however it was
cut. Space, quotes and control characters stay as they are, so that `trim` and JSON do what they would have done.
Read next: authorship.py, which proves that the inked text, read back, is the ordinary render to the letter.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import chain, groupby

from malmoi.core.errors import TemplateError

Span = tuple[int, int]
"""The characters [start, end) of a text."""

NOTHING = re.compile("(?!)")
"""A pattern that matches nowhere."""


class Ink:
    """Private-use characters that stand for the characters of an author (any integer).

    `taken` is text that may hold private-use characters already; those are never used as ink.

    >>> ink = Ink("")
    >>> text = "<s>" + ink.write("  a b ", author=7).strip() + "</s>"
    >>> ink.read(text), ink.spans(text)
    ('<s>a b</s>', [(7, (3, 4)), (7, (5, 6))])
    """

    def __init__(self, taken: str) -> None:
        private = chain(range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))
        occupied = {
            ord(character) for character in re.findall(r"[\ue000-\uf8ff\U000f0000-\U0010ffff]", taken)
        }
        self._unused = (code for code in private if code not in occupied)
        self._written: dict[int, str] = {}
        self._author: dict[str, int] = {}
        self._pots: dict[int, _Pot] = {}

    def fresh(self) -> str:
        """Return a private-use character that is neither in the text nor ink.

        Raises:
            TemplateError: none is left.
        """
        code = next(self._unused, None)
        if code is None:
            raise TemplateError(
                "a conversation has over 137,000 different pairs (assistant message, character). Split it."
            )
        return chr(code)

    def write(self, text: str, author: int, *, legible: re.Pattern[str] = NOTHING) -> str:
        """Return `text` in ink, except where `legible` matches."""
        pieces = []
        end = 0
        for match in legible.finditer(text):
            pieces += [text[end : match.start()].translate(self._pot(author)), match[0]]
            end = match.end()
        return "".join([*pieces, text[end:].translate(self._pot(author))])

    def cover(self, text: str, author: int, *, hidden: re.Pattern[str]) -> str:
        """Return `text` as it is, but in ink where `hidden` matches."""
        return hidden.sub(lambda match: match[0].translate(self._pot(author)), text)

    def read(self, text: str) -> str:
        """Return `text` with the ink read back."""
        return text.translate(self._written)

    def spans(self, text: str) -> list[tuple[int, Span]]:
        """Return who wrote where: each stretch of one author's ink, in order."""
        found = []
        at = 0
        for author, stretch in groupby(text, self._author.get):
            end = at + sum(1 for _ in stretch)
            found += [] if author is None else [(author, (at, end))]
            at = end
        return found

    def split_after_last(self, text: str) -> tuple[str, str]:
        """Return `text` up to its last ink, and what follows."""
        end = next((at for at in range(len(text), 0, -1) if text[at - 1] in self._author), 0)
        return text[:end], text[end:]

    def _pot(self, author: int) -> "_Pot":
        if author not in self._pots:
            self._pots[author] = _Pot(self, author)
        return self._pots[author]

    def _mix(self, character: str, author: int) -> str:
        inked = self.fresh()
        self._written[ord(inked)] = character
        self._author[inked] = author
        return inked


class _Pot(dict[int, str]):
    """A table for `str.translate` that mixes new ink when its author needs a character for the first time."""

    def __init__(self, ink: Ink, author: int) -> None:
        self._ink = ink
        self._for = author

    def __missing__(self, code: int) -> str:
        character = chr(code)
        is_left = character.isspace() or character in '"\\' or code < 0x20
        self[code] = character if is_left else self._ink._mix(character, self._for)
        return self[code]


def overlaps(span: Span, others: Sequence[Span]) -> bool:
    """Return whether `span` has a character in common with one of `others`, which are in order and apart.

    >>> overlaps((3, 5), [(0, 3), (4, 9)]), overlaps((3, 4), [(0, 3), (4, 9)])
    (True, False)
    """
    nearest = bisect_right(others, span[0], key=lambda other: other[1])
    return nearest < len(others) and others[nearest][0] < span[1]
