"""What stands around the arguments of a call, matched while its text is still coming.

A pattern is a sequence of parts: a text that must be there; `SPACE`, at most 64 white spaces; `NAME`, the name of a
tool; `WORD`, another word; a pattern, which may be missing as a whole. Regular expressions of the standard library do
not say whether a text may still become a match. Used by `reader.py`.
"""

import re
from enum import Enum
from typing import NamedTuple

from malmoi.llm.tools.offered import NAME as NAMES


class Part(Enum):
    """What a pattern has besides texts and patterns."""

    SPACE = "space"
    NAME = "name"
    WORD = "word"


SPACE, NAME, WORD = Part.SPACE, Part.NAME, Part.WORD

_SPACES = re.compile(r"\s{0,64}")  # a text of nothing else is no call, and not looked at forever

Pattern = tuple["str | Part | Pattern", ...]


class Match(NamedTuple):
    """What of a text a pattern has matched: up to `end`, with the `name` in it."""

    end: int
    name: str = ""


class Incomplete(Exception):
    """The text is the beginning of a match."""


class Mismatch(Exception):
    """However it goes on, the text is none."""


def follow(pattern: Pattern, text: str, start: int = 0) -> Match:
    """Match a pattern at `start`. Raises Incomplete, or Mismatch.

    >>> follow((SPACE, '"', NAME, '"', (",", SPACE)), ' "weather" {')
    Match(end=10, name='weather')
    >>> follow(("{", SPACE, '"'), "{  ")
    Traceback (most recent call last):
        ...
    malmoi.llm.tools.pattern.Incomplete
    """
    at, name = start, ""
    for part in pattern:
        if part is SPACE:
            spaces = _SPACES.match(text, at)
            assert spaces is not None, "none will do"
            at = spaces.end()
        elif part is NAME or part is WORD:
            word = NAMES.match(text, at)
            if word is None and at < len(text):
                raise Mismatch
            if word is None or word.end() == len(text):
                raise Incomplete
            name = word[0] if part is NAME else name
            at = word.end()
        elif isinstance(part, str):
            if not text.startswith(part, at):
                raise Incomplete if part.startswith(text[at:]) else Mismatch
            at += len(part)
        else:
            assert isinstance(part, tuple)
            try:
                at = follow(part, text, at).end
            except Mismatch:
                continue
    return Match(at, name)
