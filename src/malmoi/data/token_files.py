"""Prose that was encoded once: a directory of ids, memory-mapped, with a manifest that says what they are.

    tokens-00000.npy       the ids of whole documents end to end, 16 or 32 bits each
    documents-00000.npy    for each document where it ends there, its characters, and whether it is held out
    tokens.json            the manifest: tokenizer, source files, shards, and the size and SHA-256 of each; written last

A directory without the manifest is no token file. Sizes are compared when it is opened; a shard's checksum when ids of
it are looked at for the first time, which costs one reading of what is about to be read anyway. Memory is the system's
page cache: nothing is copied before a batch is made. Read next: `encode_files.py`, which writes them; `sources.py`.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy
from jaxtyping import UInt
from numpy import ndarray
from numpy.typing import NDArray

from malmoi.core.config import from_mapping
from malmoi.core.errors import ConfigError, DataError
from malmoi.core.files import read_json

FORMAT_VERSION = 1
MANIFEST = "tokens.json"
UNFINISHED = "tokens.unfinished.json"
ReadingSetting = str | int | tuple[str, ...] | None
INDEX = numpy.dtype([("end", "<u8"), ("num_characters", "<u4"), ("is_held_out", "<u4")])
"""One document of a shard. It begins where the one before ends; by the characters of its text it is shuffled."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What decides which ids a text has. Ids of two different encodings must never meet in one model."""

    tokenizer_sha256: str
    vocab_size: int
    separator_id: int


@dataclass(frozen=True, kw_only=True)
class KnownFile:
    """A file as it was when it was read or written: its path, its size in bytes, the SHA-256 of its content."""

    path: str
    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path, *, name: str | None = None) -> "KnownFile":
        """Read a whole file, in small pieces. `name` is what to call it, if not by its path."""
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            return cls(path=name or str(path), size=path.stat().st_size, sha256=digest)
        except OSError as problem:
            raise DataError(f"{path}: cannot be read ({problem.strerror}). Check its permissions.") from None

    def require_size(self, directory: Path) -> None:
        """Raise DataError unless the file is there and as large as it was."""
        path = directory / self.path
        size = path.stat().st_size if path.is_file() else None
        if size != self.size:
            found = "is missing" if size is None else f"has {size} bytes, not {self.size}"
            raise DataError(f"{path} {found}. Restore it, or encode the files anew into another directory.")

    def require_content(self, directory: Path) -> None:
        """Raise DataError unless the content is what it was."""
        path = directory / self.path
        if (found := KnownFile.of(path).sha256) != self.sha256:
            raise DataError(
                f"{path} is damaged: its SHA-256 is {found[:16]}..., not {self.sha256[:16]}... Restore it, or "
                "encode the files anew into another directory."
            )


@dataclass(frozen=True, kw_only=True)
class ShardFiles:
    """The two files of a shard, and how much is in them."""

    tokens: KnownFile
    documents: KnownFile
    num_documents: int
    num_tokens: int


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a token file says of itself.

    `reading` is how rows were read: the settings of a source but for path and weight. `files` were read in this order,
    and `documents_of_files` says how many documents came of each; pieces of a long text count as documents.
    """

    format_version: int = FORMAT_VERSION
    encoding: Encoding
    special_tokens: Mapping[str, int]
    dtype: Literal["uint16", "uint32"]
    reading: Mapping[str, ReadingSetting]
    files: tuple[KnownFile, ...]
    documents_of_files: tuple[int, ...] = ()
    shards: tuple[ShardFiles, ...] = ()
    num_documents: int = 0
    num_tokens: int = 0

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read tokens.json. Raises DataError if it is not one, or of another version."""
        content = read_json(path)
        if (version := content.get("format_version")) != FORMAT_VERSION:
            raise DataError(
                f"{path} has format_version={version!r}, and this version of Malmoi reads {FORMAT_VERSION}. "
                "Encode the files again."
            )
        try:
            return from_mapping(cls, content, where=str(path))
        except ConfigError as problem:
            raise DataError(f"{problem} Encode the files again.") from None


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


class TokenFile:
    """A directory of ids, opened.

    Attributes:
        manifest: what it says of itself.
        shards: its parts, in the order in which they were written.
    """

    def __init__(self, directory: str | Path) -> None:
        """Open a directory, reading no more than its manifest.

        Raises:
            DataError: the run that wrote it was interrupted, or the manifest is of another version or damaged, or a
                shard is missing or has another size.
        """
        directory = Path(directory).expanduser()
        if not (directory / MANIFEST).is_file():
            raise DataError(
                f"{directory} is no token file: it has no {MANIFEST}, which is written last. Repeat the command that "
                "began it, and it goes on where it was interrupted."
            )
        self.directory = directory
        self.manifest = Manifest.read(directory / MANIFEST)
        for files in self.manifest.shards:
            files.tokens.require_size(directory)
            files.documents.require_size(directory)
        self.shards = [Shard(directory, files, self.manifest.encoding) for files in self.manifest.shards]

    @staticmethod
    def is_at(path: str | Path) -> bool:
        """Whether `path` is such a directory, or one that is being written."""
        directory = Path(path).expanduser()
        return (directory / MANIFEST).is_file() or (directory / UNFINISHED).is_file()

    def require_reading(self, reading: Mapping[str, ReadingSetting]) -> None:
        """Raise ConfigError for a source with other settings than those with which the rows were read."""
        for name, wanted in reading.items():
            if (had := self.manifest.reading.get(name)) != wanted:
                raise ConfigError(
                    f"the token file {self.directory} was made with {name}={had!r}, its source has {wanted!r}. "
                    "Use the same value, or encode the files again with the other."
                )

    def documents(
        self, *, is_held_out: bool, file_order: Random | None = None
    ) -> Iterator[tuple[Shard, int]]:
        """The documents of one split, each as a shard and its number there.

        In the order in which they were read, or with the files in the order that `file_order` shuffles them into.
        """
        counts = self.manifest.documents_of_files
        files = [(sum(counts[:at]), count) for at, count in enumerate(counts)]
        if file_order is not None:
            file_order.shuffle(files)
        for start, count in files:
            yield from self._between(start, start + count, is_held_out)

    def _between(self, start: int, stop: int, is_held_out: bool) -> Iterator[tuple[Shard, int]]:
        before = 0
        for shard in self.shards:
            first, last = max(start - before, 0), min(stop - before, shard.files.num_documents)
            if first < last:
                chosen = shard.documents["is_held_out"][first:last] == is_held_out
                yield from ((shard, first + int(at)) for at in numpy.flatnonzero(chosen))
            before += shard.files.num_documents
