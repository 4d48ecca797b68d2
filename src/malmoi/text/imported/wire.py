"""Protocol Buffers' wire format, as much of it as a SentencePiece model needs.

A message is a row of fields, each a number (which field), a kind of four, and a value; what a number means is written
elsewhere (Google's encoding guide, "Message Structure"). Nothing is trusted: a length never reaches beyond the message.
Used by model_file.py.
"""

import struct
from collections.abc import Iterator

from malmoi.core.errors import TokenizerError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


def read_message(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield each field's number and value: an integer, or the bytes of a text, a message or a fixed-size number.

    Raises:
        TokenizerError: the message ends inside a field, or has a field of a kind that is not in use.

    >>> [(number, bytes(value)) for number, value in read_message(memoryview(bytes([10, 2, 104, 105])))]
    [(1, b'hi')]
    """
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, at = _read_varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _read_varint(data, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise _broken(f"a field of the kind {kind}", at)
        if size > len(data) - at:
            raise _broken(f"a field of {size} bytes with {len(data) - at} left", at)
        yield number, data[at : at + size]
        at += size


def as_float(value: int | memoryview) -> float:
    """Read a `float` field."""
    return float(struct.unpack("<f", _sized(value, 4))[0])


def as_text(value: int | memoryview) -> str:
    """Read a `string` field."""
    try:
        return str(_sized(value), "utf-8")
    except UnicodeDecodeError as problem:
        raise TokenizerError(f"a text in it is not UTF-8: {problem}. Fetch the file again.") from None


def as_message(value: int | memoryview) -> memoryview:
    """Read a field that is a message, or bytes."""
    return _sized(value)


def as_int(value: int | memoryview) -> int:
    """Read an `int32`, `bool` or `enum` field."""
    if not isinstance(value, int):
        raise _broken("bytes where a number belongs")
    return value - 2**64 if value >= 2**63 else value


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & (2**64 - 1), at + index + 1
    raise _broken("a number without an end", at)


def _sized(value: int | memoryview, size: int | None = None) -> memoryview:
    if isinstance(value, int) or size not in (None, len(value)):
        raise _broken("a number where bytes belong, or too few of them")
    return value


def _broken(what: str, at: int | None = None) -> TokenizerError:
    where = "" if at is None else f" at byte {at}"
    return TokenizerError(f"not a SentencePiece model: {what}{where}. Fetch the file again.")
