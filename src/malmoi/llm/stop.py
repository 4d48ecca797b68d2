"""Where a generated text ends: the first of several strings, found while the text is still coming.

    bytes -> ByteStream -> CallReader -> text -> STOP STRINGS -> text that can be shown

Place in the flow: `message.py` pushes what is said. Read next: `answer.py`, which ends the request when one is found.
"""

from collections.abc import Sequence
from typing import AnyStr


class StopStrings:
    """Lets text through up to the first stop string, which may lie across any number of pieces.

    The text ends where the first stop string to be complete begins; if two are complete at the same character,
    at the one that begins earlier. Laws: what comes out does not depend on how the text is cut into pieces, and
    nothing is held back but what a stop string may still begin with.

    Attributes:
        found: the one that was found, with which the text has ended; None: none was.

    >>> stops = StopStrings(["</답>"])
    >>> [stops.push(piece) for piece in ("네.", "<", "b>", "</", "답>")], stops.is_found
    (['네.', '', '<b>', '', ''], True)
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self.found: str | None = None
        self._strings = tuple(strings)
        self._held = ""

    @property
    def is_found(self) -> bool:
        return self.found is not None

    def push(self, piece: str) -> str:
        """Take the next piece; return what no stop string can reach any more."""
        if self.is_found:
            return ""
        text = self._held + piece
        found = [(at + len(string), at, string) for string in self._strings if (at := text.find(string)) >= 0]
        if found:
            _, end, self.found = min(found)
            self._held = ""
        else:
            end = len(text) - max((num_begun(text, string) for string in self._strings), default=0)
            self._held = text[end:]
        return text[:end]

    def finish(self) -> str:
        """Return what was held back, now that nothing follows."""
        held, self._held = self._held, ""
        return held


def num_begun(text: AnyStr, mark: AnyStr) -> int:
    """The length of the longest end of `text` that a mark begins with, short of the whole.

    >>> num_begun("네.</th", "</think>")
    4
    """
    lengths = range(min(len(text), len(mark) - 1), 0, -1)
    return next((length for length in lengths if text.endswith(mark[:length])), 0)
