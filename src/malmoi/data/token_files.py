"""Prose that was encoded once: a directory of ids, memory-mapped, with a manifest that says what they are.

    tokens-00000.npy       the ids of whole documents end to end, 16 or 32 bits each
    documents-00000.npy    for each document where it ends there, its characters, and whether it is held out
    tokens.json            the manifest: tokenizer, source files, shards, and the size and SHA-256 of each; written last

A directory without the manifest is no token file. Sizes are compared when it is opened; a shard's checksum when ids of
it are looked at for the first time, which costs one reading of what is about to be read anyway.
Read next: `token_manifest.py`, `token_shards.py`, the parts; `encode_files.py`, which writes them; `sources.py`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

import numpy

from malmoi.core.errors import ConfigError, DataError
from malmoi.data.token_manifest import MANIFEST, UNFINISHED, Manifest, ReadingSetting
from malmoi.data.token_shards import Shard


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
