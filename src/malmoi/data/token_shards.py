"""A shard of a token file: whole documents end to end, written once, then read in place.

    documents -> WRITE_SHARD -> tokens-00000.npy, documents-00000.npy -> SHARD -> ids

Memory is the system's page cache: the files are mapped, and nothing is copied before a batch is made.
Read next: `encode_files.py`, which has shards written; `token_files.py`, which has them read.
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy
from jaxtyping import UInt
from numpy import ndarray
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray

from malmoi.core.files import atomic_write
from malmoi.data.token_manifest import Encoding, KnownFile, ShardFiles

INDEX = numpy.dtype([("end", "<u8"), ("num_characters", "<u4"), ("is_held_out", "<u4")])
"""One document of a shard. It begins where the one before ends; by the characters of its text it is shuffled."""


@dataclass(frozen=True, slots=True)
class EncodedDocument:
    """The ids of a document, separators included, and what is to be known of it."""

    ids: UInt[ndarray, " T"]
    num_characters: int
    is_held_out: bool


def write_shard(
    out: Path,
    number: int,
    documents: Iterable[EncodedDocument],
    dtype: numpy.dtype[Any],
    tokens_per_shard: int,
) -> ShardFiles:
    """Write documents until they have `tokens_per_shard`, the one that reaches it included; takes no more of them."""
    tokens_path, documents_path = (out / f"{kind}-{number:05}.npy" for kind in ("tokens", "documents"))
    num_tokens = 0
    ends, num_characters, is_held_out = array("Q"), array("I"), array("I")
    with atomic_write(tokens_path) as temporary, temporary.open("wb") as file:
        header = {"descr": dtype.str, "fortran_order": False, "shape": (0,)}
        write_array_header_1_0(file, header)
        for document in documents:
            file.write(document.ids.data)
            num_tokens += len(document.ids)
            ends.append(num_tokens)
            num_characters.append(document.num_characters)
            is_held_out.append(document.is_held_out)
            if num_tokens >= tokens_per_shard:
                break
        file.seek(0)  # the header is as long for every number of tokens
        write_array_header_1_0(file, header | {"shape": (num_tokens,)})
    index = numpy.empty(len(ends), INDEX)
    index["end"], index["num_characters"], index["is_held_out"] = ends, num_characters, is_held_out
    with atomic_write(documents_path) as temporary, temporary.open("wb") as file:
        numpy.save(file, index)
    return ShardFiles(
        tokens=KnownFile.of(tokens_path, name=tokens_path.name),
        documents=KnownFile.of(documents_path, name=documents_path.name),
        num_documents=len(index),
        num_tokens=num_tokens,
    )


class Shard:
    """A part of a token file: documents end to end. Nothing is read before somebody looks at it."""

    def __init__(self, directory: Path, files: ShardFiles, encoding: Encoding) -> None:
        self.directory, self.files, self.encoding = directory, files, encoding

    def ids(self, number: int) -> UInt[ndarray, " T"]:
        """The ids of a document, separators included: a view of the mapped file, 16 or 32 bits each.

        Raises DataError if the file is not what was written.
        """
        start = int(self.documents["end"][number - 1]) if number else 0
        return self._tokens[start : int(self.documents["end"][number])]

    @cached_property
    def documents(self) -> NDArray[Any]:
        """One `INDEX` row a document. Raises DataError if the file is not what was written."""
        return self._map(self.files.documents)

    @cached_property
    def _tokens(self) -> UInt[ndarray, " T"]:
        return self._map(self.files.tokens)

    def _map(self, file: KnownFile) -> NDArray[Any]:
        file.require_content(self.directory)
        # "c": private to this process, so that torch takes the memory for writable; nobody writes.
        mapped = numpy.load(self.directory / file.path, mmap_mode="c")
        return numpy.asarray(mapped)
