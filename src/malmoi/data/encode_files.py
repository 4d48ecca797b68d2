"""Files of prose -> a token file: on all cores, in bounded memory, and once for every training after it.

    sources.read_file -> documents with their split -> encode_ahead -> token_shards.write_shard -> manifest

An interrupted run keeps its whole shards in a directory that nobody takes for a
token file; the same call goes on behind them. The same files give the same bytes, on any number of cores. Read next:
`token_files.py`, which reads what is written here.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy

from malmoi.core.config import to_mapping
from malmoi.core.errors import ConfigError, DataError
from malmoi.core.files import write_json
from malmoi.data.documents import Text
from malmoi.data.encode_ahead import Read, encode_ahead
from malmoi.data.files import find_files
from malmoi.data.prose import ProseEncoder
from malmoi.data.sources import SourceConfig, read_file, reading_settings
from malmoi.data.token_manifest import MANIFEST, UNFINISHED, KnownFile, Manifest
from malmoi.data.token_shards import write_shard

TOKENS_PER_SHARD = 2**26  # 128 MB at 16 bits; what an interruption costs, at most


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
            documents = encode_ahead(new, prose, dtype, pool, on_progress)
            for first in documents:
                rest = chain([first], documents)
                shard = write_shard(out, len(manifest.shards), rest, dtype, tokens_per_shard)
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
                    f"{out} was made, or begun, with something else. What differs: {', '.join(differing)}. Name "
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


def _read(files: Sequence[Path], source: SourceConfig, counts: list[int]) -> Iterator[Read]:
    """The documents of all files with their split; counts how many each file has (mutates `counts`)."""
    for at, file in enumerate(files):
        for split, document in read_file(file, source):
            assert isinstance(document, Text), "a source of prose gives texts"
            counts[at] += 1
            yield split, document
