"""Which script a character is written in: hangul, latin, han, cyrillic, ...

Python's library has no Script property, but Unicode's names begin with it and are never changed: CYRILLIC SMALL LETTER
A, CJK UNIFIED IDEOGRAPH-4E00. So there is no table here to grow old. Read next: `malmoi/llm/script_lock.py`, which
keeps an answer within some of them.
"""

import unicodedata
from functools import cache
from itertools import chain

UNASSIGNED = "unassigned"
"""The script of what has no name: code points without a character, and those of private use."""

_IN_USE = (range(0x32400), range(0xE0000, 0xE0200))
"""The code points outside of which there is no character, but for private use."""

_WIDTHS = {"fullwidth", "halfwidth"}
_SAME = {
    "cjk": "han", "kangxi": "han", "ideographic": "han", "hangzhou": "han", "hexagram": "han",
    "hentaigana": "hiragana",
}  # fmt: skip
_SHARED = {
    "alef", "angstrom", "bet", "black", "caron", "circled", "combining", "counting", "dalet", "digit", "dingbat",
    "double", "euler", "feminine", "fraction", "gimel", "information", "kelvin", "masculine", "mathematical", "micro",
    "modifier", "musical", "negative", "number", "ohm", "parenthesized", "planck", "roman", "script", "segmented",
    "small", "subscript", "superscript", "tally", "turned", "variation", "vulgar",
}  # fmt: skip
"""How the names of letters, marks and numbers begin that belong to no script in particular: m², ½, ℃, 𝐱."""


def script_of(character: str) -> str | None:
    """The script of a letter, mark or numeral; None for what all scripts use: digits, punctuation, emoji, spaces.

    >>> [script_of(character) for character in "한A漢あ、7½é́٣"]
    ['hangul', 'latin', 'han', 'hiragana', None, None, None, 'latin', None, 'arabic']
    """
    category = unicodedata.category(character)
    if category in ("Cn", "Co", "Cs"):
        return UNASSIGNED
    words = unicodedata.name(character, "").lower().replace("-", " ").split()
    if words and words[0] in _WIDTHS:
        words = words[1:]
    if not words or not (category[0] in "LMN" or (category == "So" and words[0] in _SAME)):
        return None
    return None if words[0] in _SHARED else _SAME.get(words[0], words[0])


@cache
def characters_of() -> dict[str | None, frozenset[str]]:
    """Every character by its script; those of None are common to all, those of `UNASSIGNED` not all there are."""
    found: dict[str | None, set[str]] = {}
    for character in map(chr, chain(*_IN_USE)):
        found.setdefault(script_of(character), set()).add(character)
    return {script: frozenset(characters) for script, characters in found.items()}
