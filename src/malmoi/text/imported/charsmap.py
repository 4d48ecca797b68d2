"""SentencePiece's table of replacements, compiled into a double array, as normalisers of the `tokenizers` library.

That library can read the table itself ("Precompiled"), but not as SentencePiece does: it looks at one character after
the other, so that 한 in three jamo stays three, and in a cluster of less than six bytes it drops all but the first.
The tables in use are NFKC with exceptions, so here they become NFKC with exceptions. Read next: sentencepiece.py.
"""

import base64
import re
import sys
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Iterator

from tokenizers import normalizers

from malmoi.core.errors import TokenizerError
from malmoi.text.imported.content import Part, replace

_MAX_EXCEPTIONS = 64
_MAX_VALUE_BYTES = 256  # the longest in use, that of U+FDFA, has 33
_PLACES = [chr(code) for code in range(0xFDD0, 0xFDF0)]
"""What stands for a character while the others are changed: Unicode keeps these free for such use in a program."""


class CharsMap:
    """The table: a 32-bit size, that many bytes of a double array, then the replacements, each ended by a zero byte.

    An array's unit says where the children of a node lie (the upper bits), whether a key ends there (bit 8), and which
    byte leads to it (the lower bits): the layout of darts-clone.

    Raises:
        TokenizerError: the sizes do not fit together.
    """

    def __init__(self, data: bytes) -> None:
        size = int.from_bytes(data[:4], "little")
        if size % 4 or not 4 <= size <= len(data) - 4:
            raise _broken()
        self._units = array("I", data[4 : 4 + size])
        if sys.byteorder == "big":
            self._units.byteswap()
        self._texts = data[4 + size :]
        # The `tokenizers` library follows the units without a look, and panics outside of the array.
        if not (self._texts.endswith(b"\0") and all(map(self._is_inside, range(len(self._units))))):
            raise _broken()

    def find(self, key: str) -> str | None:
        """Return what `key` as a whole is replaced by; None if there is no rule for it."""
        node: int | None = 0
        for byte in key.encode():
            node = None if node is None else self._child(node, byte)
        return None if node is None else self._value(node)

    def characters(self) -> Iterator[tuple[str, str]]:
        """Yield the single characters that there are rules for, and what each is replaced by."""
        nodes = [(b"", 0)]
        for _ in range(4):  # bytes of a character
            nodes = [
                (key + bytes([byte]), child)
                for key, node in nodes
                for byte in (range(0x80, 0xC0) if key else (*range(1, 0x80), *range(0xC2, 0xF5)))
                if (len(key) < _length(key)) and (child := self._child(node, byte)) is not None
            ]
            for key, node in nodes:
                if len(key) == _length(key) and (value := self._value(node)) is not None:
                    yield key.decode("utf-8", "replace"), value

    def _is_inside(self, node: int) -> bool:
        """Whether all that a unit can point to is there: a replacement, or a node for each byte."""
        unit = self._units[node]
        if unit & 0x8000_0000:
            return unit & 0x7FFF_FFFF < len(self._texts)
        return self._children(node) | 0xFF < len(self._units)

    def _child(self, node: int, byte: int) -> int | None:
        at = self._children(node) ^ byte
        return at if byte and self._units[at] & 0x8000_00FF == byte else None

    def _value(self, node: int) -> str | None:
        if not self._units[node] & 0x100:
            return None
        start = self._units[self._children(node)] & 0x7FFF_FFFF
        end = self._texts.find(b"\0", start, start + _MAX_VALUE_BYTES)
        if end < 0:
            raise _broken()
        try:
            return self._texts[start:end].decode()
        except UnicodeDecodeError:
            raise _broken() from None

    def _children(self, node: int) -> int:
        unit = self._units[node]
        return node ^ (unit >> 10 << ((unit & 0x200) >> 6))


def normalizers_of(data: bytes, name: str) -> list[Part]:
    """Return the steps that do what a compiled table does; `name` is what its file calls it.

    Equal to SentencePiece for every character, and for letters and syllables in NFC or NFD. Our difference: what
    follows a character that was replaced or composed already (ﬁ + ◌́, 가 + ᆨ) may be composed with it here, as Unicode
    says, and is not there; and some rare letters (Cherokee, where case is folded) lose a mark that no letter is
    composed with.

    Raises:
        TokenizerError: the table is broken, or not one of SentencePiece's own.
    """
    if not data:
        return []
    table = CharsMap(data)
    if name == "user_defined" or table.find("①") != "1":
        raise TokenizerError(
            f"its table of replacements ({name or 'unnamed'}) is none of nmt_nfkc, nfkc, nmt_nfkc_cf and nfkc_cf, and "
            "no tokenizer.json can hold another. Take the tokenizer.json of the same model."
        )
    kinds = ["NFKC", "Lowercase", "NFKC"] if table.find("A") == "a" else ["NFKC"]
    replaced, kept = _exceptions(
        table, normalizers.Sequence([getattr(normalizers, kind)() for kind in kinds])
    )
    if len(replaced) > _MAX_EXCEPTIONS or len(kept) > len(_PLACES):
        raise _broken()
    places = dict(zip(kept, _PLACES, strict=False))
    return [
        *(replace(character, place) for character, place in places.items()),
        *(replace(f"[{re.escape(keys)}]", value, is_regex=True) for value, keys in replaced.items()),
        *({"type": kind} for kind in kinds),
        # What is left for it are characters of four bytes, with which the library makes no mistake, and rare letters.
        {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()},
        *(replace(place, character) for character, place in places.items()),
    ]


def _exceptions(table: CharsMap, standard: normalizers.Normalizer) -> tuple[dict[str, str], list[str]]:
    """Characters of at most three bytes of which the standard steps make something else than the table does.

    Returns for each replacement the characters that become it, and the characters that stay.
    """
    replaced: dict[str, str] = defaultdict(str)
    kept: list[str] = []
    rules = dict(table.characters())
    for code in (*range(1, 0xD800), *range(0xE000, 0x10000)):
        character = chr(code)
        value, usual = rules.get(character, character), standard.normalize_str(character)
        is_left = unicodedata.category(character).startswith("L") and rules.get(usual, usual) == value
        if usual == value or is_left:
            continue
        if value == character:
            kept.append(character)
        else:
            replaced[value] += character
    return replaced, kept


def _length(key: bytes) -> int:
    """How many bytes the character has that begins like `key`."""
    return 1 + sum(key[:1] >= first for first in (b"\xc2", b"\xe0", b"\xf0"))


def _broken() -> TokenizerError:
    return TokenizerError(
        "not a SentencePiece model: its table of replacements is broken. Fetch the file again."
    )
