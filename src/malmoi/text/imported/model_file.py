"""What a SentencePiece `.model` file holds (sentencepiece_model.proto): pieces, and how text is normalised.

    bytes -> wire.py -> MODEL FILE -> sentencepiece.py -> tokenizer.json

Settings that only training reads are passed over. Read next: sentencepiece.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from malmoi.core.errors import TokenizerError
from malmoi.text.imported.wire import as_float, as_int, as_message, as_text, read_message


class Kind(IntEnum):
    """What a piece is for. UNUSED ones are in the file, but no text is cut into them."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Piece(NamedTuple):
    """One token; its place in the file is its id. `score`: a log-probability, or minus the rank of a merge."""

    text: str
    score: float
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A model as it is stored; the defaults are those of the format.

    `charsmap` is a compiled table of replacements, empty for none, and `charsmap_name` what it is called. `ids` are
    those of the tokens with a role ("bos", "eos", "pad"), negative where there is none.
    """

    pieces: list[Piece]
    algorithm: str
    has_byte_fallback: bool
    ids: dict[str, int]
    charsmap: bytes = b""
    charsmap_name: str = ""
    has_dummy_prefix: bool = True
    has_whitespace_removal: bool = True

    def of_kind(self, *kinds: Kind) -> Iterator[tuple[int, Piece]]:
        """Yield the pieces of these kinds with their ids."""
        return ((index, piece) for index, piece in enumerate(self.pieces) if piece.kind in kinds)


_ALGORITHMS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
_MAX_PIECE_BYTES = 2048  # time grows with the square of it
_PIECES, _TRAINER, _NORMALIZER, _DENORMALIZER = 1, 2, 3, 5


def read_model_file(data: bytes) -> ModelFile:
    """Read the content of a `.model` file.

    Raises:
        TokenizerError: it is broken, or asks for what no tokenizer.json can do.
    """
    pieces: list[Piece] = []
    specs: dict[int, list[tuple[int, int | memoryview]]] = {_TRAINER: [], _NORMALIZER: [], _DENORMALIZER: []}
    for number, value in read_message(memoryview(data)):
        if number == _PIECES:
            pieces.append(_read_piece(as_message(value)))
        elif number in specs:
            specs[number] += read_message(as_message(value))
    trainer, normalizer, denormalizer = (
        dict(specs[number]) for number in (_TRAINER, _NORMALIZER, _DENORMALIZER)
    )
    if len({piece.text for piece in pieces}) < len(pieces) or not any(pieces):
        raise TokenizerError(
            "not a SentencePiece model: no pieces, or one of them twice. Fetch the file again."
        )
    if as_int(trainer.get(24, 0)):
        raise TokenizerError("treat_whitespace_as_suffix is set, which no tokenizer.json can say.")
    if not as_int(normalizer.get(5, 1)):
        raise TokenizerError(
            "escape_whitespaces is off: it does not write ▁ for a space, which is not supported."
        )
    if denormalizer.get(2):
        raise TokenizerError(
            "it changes text while decoding (denormalizer_spec), which no tokenizer.json can say."
        )
    return ModelFile(
        pieces=pieces,
        algorithm=_ALGORITHMS.get(as_int(trainer.get(3, 1)), "unknown"),
        has_byte_fallback=bool(as_int(trainer.get(35, 0))),
        ids={
            "bos": as_int(trainer.get(41, 1)),
            "eos": as_int(trainer.get(42, 2)),
            "pad": as_int(trainer.get(43, -1)),
        },
        charsmap=bytes(as_message(normalizer.get(2, memoryview(b"")))),
        charsmap_name=as_text(normalizer.get(1, memoryview(b""))),
        has_dummy_prefix=bool(as_int(normalizer.get(3, 1))),
        has_whitespace_removal=bool(as_int(normalizer.get(4, 1))),
    )


def _read_piece(data: memoryview) -> Piece:
    fields = dict(read_message(data))
    kind = as_int(fields.get(3, 1))
    if 1 not in fields or kind not in set(Kind) or len(data) > _MAX_PIECE_BYTES:
        raise TokenizerError(
            f"not a SentencePiece model: a piece without text, of kind {kind}, or of {len(data)} bytes. "
            "Fetch the file again."
        )
    return Piece(as_text(fields[1]), as_float(fields[2]) if 2 in fields else 0.0, Kind(kind))
