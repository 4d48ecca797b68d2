"""SentencePiece's table of replacements, compiled into a double array: which characters become which.

    a model's bytes -> CHARSMAP -> replacements.py

Read next: replacements.py, which makes normalisers of it.
"""

import sys
from array import array
from collections.abc import Iterator

from malmoi.core.errors import TokenizerError

_MAX_VALUE_BYTES = 256  # the longest in use, that of U+FDFA, has 33
_LEAF = 0x8000_0000  # no node: the lower bits say where the replacement begins
_KEY_ENDS = 0x100  # the first of the children is a leaf


class CharsMap:
    """The table: a 32-bit size, that many bytes of a double array, then the replacements, each ended by a zero byte.

    An array's unit says where the children of a node lie (the upper bits), whether a key ends there (bit 8), and which
    byte leads to it (the lower bits): the layout of darts-clone.

    Raises:
        TokenizerError: the sizes do not fit together, a unit points where nothing is, or the texts are not UTF-8.
    """

    def __init__(self, data: bytes) -> None:
        size = int.from_bytes(data[:4], "little")
        if size % 4 or not 4 <= size <= len(data) - 4:
            raise broken()
        self._units = array("I", data[4 : 4 + size])
        if sys.byteorder == "big":
            self._units.byteswap()
        self._texts = data[4 + size :]
        try:
            self._texts.decode()
        except UnicodeDecodeError:
            raise broken() from None
        # The `tokenizers` library follows the units without a look, and panics outside of the array or of a text.
        has_root = self._texts.endswith(b"\0") and not self._units[0] & _LEAF
        if not (has_root and all(map(self._is_inside, range(len(self._units))))):
            raise broken()

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
        """Whether all that a unit can point to is there: a replacement, or a node for each byte and a key's leaf."""
        unit = self._units[node]
        if unit & _LEAF:
            start = unit & ~_LEAF
            return start < len(self._texts) and self._texts[start] & 0xC0 != 0x80  # not inside of a character
        children = self._children(node)
        return children | 0xFF < len(self._units) and bool(
            self._units[children] & _LEAF or not unit & _KEY_ENDS
        )

    def _child(self, node: int, byte: int) -> int | None:
        at = self._children(node) ^ byte
        return at if byte and self._units[at] & (_LEAF | 0xFF) == byte else None

    def _value(self, node: int) -> str | None:
        if not self._units[node] & _KEY_ENDS:
            return None
        start = self._units[self._children(node)] & ~_LEAF
        end = self._texts.find(b"\0", start, start + _MAX_VALUE_BYTES)
        if end < 0:
            raise broken()
        return self._texts[start:end].decode()

    def _children(self, node: int) -> int:
        unit = self._units[node]
        return node ^ (unit >> 10 << ((unit & 0x200) >> 6))


def _length(key: bytes) -> int:
    """How many bytes the character has that begins like `key`."""
    return 1 + sum(key[:1] >= first for first in (b"\xc2", b"\xe0", b"\xf0"))


def broken() -> TokenizerError:
    """The error for a table that no trainer has written."""
    return TokenizerError(
        "not a SentencePiece model: its table of replacements is broken. Fetch the file again."
    )
