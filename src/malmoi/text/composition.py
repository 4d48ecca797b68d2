"""Jamo -> syllables, for the text of a tokenizer whose normaliser took them apart.

    ids -> bytes of the tokens -> COMPOSE -> text        ᄒ + ᅡ + ᆫ -> 한

A tokenizer.json can say "NFD" before the cutting, and has no word for the way back. Where a file's normaliser ends
with NFD we compose what it decodes: its text would have been NFC, or is equal to it by Unicode's rules.
Read next: training/jamo.py, which makes such a file; stream.py, which composes as the tokens come.
"""

import re
import unicodedata
from typing import Any

from malmoi.text.hangul import TRAILING, VOWELS

_JOINS_A_JAMO = re.compile(f"[{VOWELS}{TRAILING}]")


def takes_apart(normalizer: dict[str, Any] | None) -> bool:
    """Tell whether the normaliser of a tokenizer.json leaves a text in NFD."""
    while normalizer is not None and normalizer["type"] == "Sequence":
        normalizer = normalizer["normalizers"][-1] if normalizer["normalizers"] else None
    return normalizer is not None and normalizer["type"] == "NFD"


def compose(text: str) -> str:
    """Return `text` in NFC.

    >>> compose("\u1112\u1161\u11ab")
    '한'
    """
    return unicodedata.normalize("NFC", text)


def compose_bytes(text: bytes) -> bytes:
    """Compose what is UTF-8 in `text`; other bytes stay where they are."""
    return compose(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def composed_length(text: str) -> int:
    """How many characters of `text` compose the same, whatever follows: those before the last that stands by itself.

    Only marks, vowels and trailing consonants join what is before them.

    >>> composed_length("가\u1112\u1161"), composed_length("cafe"), composed_length("cafe\u0301.")
    (1, 3, 5)
    """
    for end in range(len(text) - 1, 0, -1):
        if not (unicodedata.category(text[end]).startswith("M") or _JOINS_A_JAMO.match(text[end])):
            return end
    return 0
