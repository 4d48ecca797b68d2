"""Prose encoded ahead of whoever writes it: reading, encoding and writing overlap, on all cores, in bounded memory.

    documents with their split -> batches -> ENCODED, some batches ahead -> token_shards

Read next: `encode_files.py`, which is the whole way.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy

from malmoi.data.documents import Text
from malmoi.data.prose import ProseEncoder
from malmoi.data.sources import Split
from malmoi.data.token_shards import EncodedDocument

CHARACTERS_PER_BATCH = 2**16  # until a batch is done, the library keeps far more of a token than its id

Read = tuple[Split, Text]
"""A document as it was read, and whether it is to be trained on."""


def encode_ahead(
    documents: Iterable[Read],
    prose: ProseEncoder,
    dtype: numpy.dtype[Any],
    pool: ThreadPoolExecutor,
    on_progress: Callable[[int, int], None],
) -> Iterator[EncodedDocument]:
    """The documents in order, some batches ahead: while the library encodes, others are read and written."""

    def encode(batch: Sequence[Read]) -> list[EncodedDocument]:
        encoded = prose.encode([text for _, text in batch])
        return [
            EncodedDocument(numpy.fromiter(ids, dtype, len(ids)), text.num_characters, split == "held-out")
            for (split, text), ids in zip(batch, encoded, strict=True)
        ]

    num_documents = num_tokens = 0
    waiting: deque[Future[list[EncodedDocument]]] = deque()
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


def _batches(documents: Iterable[Read]) -> Iterator[list[Read]]:
    batch: list[Read] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += document[1].num_characters
        if size >= CHARACTERS_PER_BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
