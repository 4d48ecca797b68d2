"""Files of prose -> a token file: on all cores, in bounded memory, and once for every training after it.

    sources.read_file -> documents with their split -> batches -> ProseEncoder -> shards -> manifest

Reading, encoding and writing overlap. An interrupted run keeps its whole shards in a directory that nobody takes for a
token file; the same call goes on behind them. The same files give the same bytes, on any number of cores. Read next:
`token_files.py`, which reads what is written here.
"""

import os
import shutil
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy
from jaxtyping import UInt
from numpy import ndarray
from numpy.lib.format import write_array_header_1_0

from malmoi.core.config import to_mapping
from malmoi.core.errors import ConfigError, DataError
from malmoi.core.files import atomic_write, write_json
from malmoi.data.documents import Text
from malmoi.data.files import find_files
from malmoi.data.prose import ProseEncoder
from malmoi.data.sources import SourceConfig, Split, read_file, reading_settings
from malmoi.data.token_files import INDEX, MANIFEST, UNFINISHED, KnownFile, Manifest, ShardFiles

TOKENS_PER_SHARD = 2**26  # 128 MB at 16 bits; what an interruption costs, at most
CHARACTERS_PER_BATCH = 2**16  # until a batch is done, the library keeps far more of a token than its id

_Read = tuple[Split, Text]


@dataclass(frozen=True, slots=True)
class _Encoded:
    ids: UInt[ndarray, " T"]
    num_characters: int
    is_held_out: bool


def encode_files(
    sources: Sequence[SourceConfig],
    out: str | Path,
    prose: ProseEncoder,
    *,
    tokens_per_shard: int = TOKENS_PER_SHARD,
    on_progress: Callable[[int, int], None] = lambda num_documents, num_tokens: None,
) -> Manifest:
    """Encode what the sources mean, training and held-out documents, into the directory `out`.

    The sources differ in `path` alone, and each file is read once, in the order of names: a source whose path is `out`
    then gives what one over all those files gives, in the same order. A shard ends with the first document that
    brings it to `tokens_per_shard`. `on_progress` is told how many documents and tokens this call has encoded.

    Where `out` has whole shards of the same call, interrupted, it goes on behind them, reading the files again but
    encoding only the rest; where it is complete, nothing is done.

    Raises:
        ConfigError: the sources are read in different ways, or have conversations or labels: only prose is encoded.
        DataError: `out` has something else in it, or a file has changed; or as `read_documents` does. Of what was begun
            only whole shards are left.
    """
    settings = reading_settings(sources[0])
    if any(reading_settings(source) != settings for source in sources):
        raise ConfigError(
            "the sources of a token file differ in more than their path. Make one file of each kind."
        )
    if sources[0].messages_field is not None or sources[0].label_field is not None:
        raise ConfigError(
            "a token file has prose alone, neither conversations nor labels: their targets depend on more than the "
            "tokenizer. Leave messages_field and label_field out, or train from the files themselves."
        )
    if tokens_per_shard < 1:
        raise ConfigError(f"tokens_per_shard={tokens_per_shard} is not 1 or more.")
    files = sorted({file for source in sources for file in find_files(source.path)})
    out = Path(out)
    manifest = _begin(
        out,
        Manifest(
            encoding=prose.encoding,
            special_tokens=dict(prose.tokenizer.special_tokens),
            dtype="uint16" if prose.encoding.vocab_size <= 2**16 else "uint32",
            reading=settings,
            files=tuple(KnownFile.of(file) for file in files),
        ),
    )
    if (out / MANIFEST).is_file():
        return manifest
    dtype = numpy.dtype(manifest.dtype).newbyteorder("<")
    counts = [0] * len(files)
    new = islice(_read(files, sources[0], counts), manifest.num_documents, None)
    try:
        with ThreadPoolExecutor() as pool:
            documents = _encode(new, prose, dtype, pool, on_progress)
            for first in documents:
                rest = chain([first], documents)
                shard = _write_shard(out, len(manifest.shards), rest, dtype, tokens_per_shard)
                manifest = replace(
                    manifest,
                    shards=(*manifest.shards, shard),
                    num_documents=manifest.num_documents + shard.num_documents,
                    num_tokens=manifest.num_tokens + shard.num_tokens,
                )
                write_json(out / UNFINISHED, to_mapping(manifest))
        if not manifest.num_documents:
            raise DataError(f"{files[0]}{' and the others have' if files[1:] else ' has'} no text to encode.")
    except BaseException:
        if not manifest.shards:
            (out / UNFINISHED).unlink()
            with suppress(OSError):  # somebody has put something else there
                out.rmdir()
        raise
    for file in manifest.files:
        file.require_size(Path())  # or somebody was still writing it
    manifest = replace(manifest, documents_of_files=tuple(counts))
    write_json(out / MANIFEST, to_mapping(manifest))
    (out / UNFINISHED).unlink()
    return manifest


def _begin(out: Path, plan: Manifest) -> Manifest:
    """What there is of `plan` in `out`, whole shards or all of it; else begin it."""
    for name in (MANIFEST, UNFINISHED):
        if (out / name).is_file():
            found = Manifest.read(out / name)
            beginning = replace(found, documents_of_files=(), shards=(), num_documents=0, num_tokens=0)
            if beginning != plan:
                differing = [key for key in to_mapping(plan) if getattr(plan, key) != getattr(beginning, key)]
                raise DataError(
                    f"{out} was made, or begun, with something else: another {', another '.join(differing)}. Name "
                    "another directory, or remove this one."
                )
            for shard in found.shards:
                shard.tokens.require_size(out)
                shard.documents.require_size(out)
            for leftover in out.glob(".*.tmp"):  # of a process that was killed
                shutil.rmtree(leftover)
            return found
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(f"{out} is there already, and no empty directory. Name another one.")
    write_json(out / UNFINISHED, to_mapping(plan))
    return plan


def _read(files: Sequence[Path], source: SourceConfig, counts: list[int]) -> Iterator[_Read]:
    """The documents of all files with their split; counts how many each file has (mutates `counts`)."""
    for at, file in enumerate(files):
        for split, document in read_file(file, source):
            assert isinstance(document, Text), "a source of prose gives texts"
            counts[at] += 1
            yield split, document


def _encode(
    documents: Iterable[_Read],
    prose: ProseEncoder,
    dtype: numpy.dtype[Any],
    pool: ThreadPoolExecutor,
    on_progress: Callable[[int, int], None],
) -> Iterator[_Encoded]:
    """The documents in order, some batches ahead: while the library encodes, others are read and written."""

    def encode(batch: Sequence[_Read]) -> list[_Encoded]:
        encoded = prose.encode([text for _, text in batch])
        return [
            _Encoded(numpy.array(ids, dtype), text.num_characters, split == "held-out")
            for (split, text), ids in zip(batch, encoded, strict=True)
        ]

    num_documents = num_tokens = 0
    waiting: deque[Future[list[_Encoded]]] = deque()
    batches = _batches(documents)
    while True:
        waiting += (pool.submit(encode, batch) for batch in islice(batches, _num_ahead() - len(waiting)))
        if not waiting:
            return
        done = waiting.popleft().result()
        num_documents += len(done)
        num_tokens += sum(len(document.ids) for document in done)
        on_progress(num_documents, num_tokens)
        yield from done


def _num_ahead() -> int:
    return 4 * (os.cpu_count() or 1)  # on a busy machine a core is not idle until this thread has its turn


def _batches(documents: Iterable[_Read]) -> Iterator[list[_Read]]:
    batch: list[_Read] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += document[1].num_characters
        if size >= CHARACTERS_PER_BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _write_shard(
    out: Path, number: int, documents: Iterable[_Encoded], dtype: numpy.dtype[Any], tokens_per_shard: int
) -> ShardFiles:
    """Write documents until there are enough, and what there is to know of each."""
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
