"""What a token file says of itself, tokens.json: tokenizer, source files, shards, the size and SHA-256 of each file.

It is written last, so a directory without it is no token file; until then `UNFINISHED` says how far its making is.
Read next: `token_files.py`, which opens such a directory; `encode_files.py`, which makes one.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from malmoi.core.config import from_mapping
from malmoi.core.errors import ConfigError, DataError
from malmoi.core.files import read_json

FORMAT_VERSION = 1
MANIFEST = "tokens.json"
UNFINISHED = "tokens.unfinished.json"
ReadingSetting = str | int | tuple[str, ...] | None
"""The value of a setting of `SourceConfig` that decides which documents a file has."""


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
