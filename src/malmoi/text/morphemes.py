"""Where morphemes begin: `나는 학교에 갔다` -> 나|는 학교|에 갔|다, by the analyser Kiwi.

    texts -> BORDERS -> training/morphemes.py: merges that do not cross them
                     -> the microscope: how often the borders of tokens are borders of morphemes

The analyser, `kiwipiepy`, is an extra and 105 MB with its model; nothing else in `text` needs it, and no tokenizer
that we save does. Read next: training/morphemes.py.
"""

import importlib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from malmoi.core.errors import TokenizerError


def borders(texts: Iterable[str]) -> Iterator[list[int]]:
    """Give, for each text in turn, the offsets of the characters at which a morpheme begins, in rising order.

    An eojeol begins with one. A border inside a syllable is none, for there is no place to cut: 했다 is 하 + 었 + 다,
    of which 하 and 었 share 했, so that it has two borders, 했|다. Offsets count characters of the text as it is given;
    give NFC, which the analyser knows best. Several texts are under way at a time, on all cores.

    Raises:
        TokenizerError: kiwipiepy is not installed.

    >>> list(borders(["나는 학교에 갔다", "예뻐요"]))
    [[0, 1, 3, 5, 7, 8], [0]]
    """
    for morphemes in _analyser().tokenize(texts):
        yield list(_starts(morphemes))


def require_analyser() -> None:
    """Raise `TokenizerError`, as `borders` would, if kiwipiepy is not installed: ask before texts are read."""
    _analyser()


def _starts(morphemes: Iterable[Any]) -> Iterator[int]:
    end = 0
    for morpheme in morphemes:
        # One that begins before the last one ended shares a syllable with it.
        if morpheme.start >= end and morpheme.len:
            yield morpheme.start
        end = max(end, morpheme.start + morpheme.len)


@cache
def _analyser() -> Any:
    try:
        kiwi = importlib.import_module("kiwipiepy")
    except ImportError:
        raise TokenizerError(
            "finding morphemes needs kiwipiepy. Install it: pip install 'malmoi[morphemes]'"
        ) from None
    return kiwi.Kiwi()
