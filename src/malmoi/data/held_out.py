"""A fixed set of batches that no training stream ever sees, and the bytes to measure a loss by.

Loss in nats a token cannot be compared across tokenizers; bits per byte can: the sum of the losses over
the UTF-8 bytes that the targets stand for (DESIGN: bytes are the truth).
"""

import math
from collections.abc import Sequence
from itertools import islice

import torch
from jaxtyping import Int
from torch import Tensor

from malmoi.core.errors import DataError
from malmoi.data.pack import PackedBatch, PackedStream
from malmoi.data.samples import NO_TARGET, SampleEncoder
from malmoi.data.sources import SourceConfig
from malmoi.text.composition import compose_bytes
from malmoi.text.tokenizer import Tokenizer


def held_out(
    sources: Sequence[SourceConfig],
    encoder: SampleEncoder,
    *,
    tokens_per_batch: int,
    context_length: int,
    max_batches: int,
) -> list[PackedBatch]:
    """At most `max_batches` batches of the sources' held-out documents, each read once, mixed by weight.

    Always the same for the same files. There are fewer batches when the documents run out; the rest of the
    last one then has no targets. Raises `DataError` when a source has no held-out document.
    """
    if empty := [source.path for source in sources if source.holdout_permille == 0]:
        raise DataError(
            f"nothing is held out of {empty[0]}: holdout_permille=0. Set it above 0 to measure a loss on it."
        )
    stream = PackedStream(
        sources,
        encoder,
        tokens_per_batch=tokens_per_batch,
        context_length=context_length,
        split="held-out",
        num_epochs=1,
    )
    return list(islice(stream, max_batches))


class ByteCounter:
    """How many UTF-8 bytes a tensor of targets stands for: 0 for special tokens and for -100.

    Letters of a tokenizer that takes syllables apart count as the syllables that they make: 한 is 3 bytes, not 9.

    >>> from malmoi.testing.tokenizer import ByteTokenizer
    >>> targets = torch.tensor([[68, 237, 179, 131, 0, -100]])    # "A가" (1 + 3 bytes), separator, no target
    >>> ByteCounter(ByteTokenizer()).count(targets)
    4
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        special = set(tokenizer.special_tokens.values())
        sizes = [0 if i in special else len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)]
        self._sizes: Int[Tensor, " V"] = torch.tensor(sizes)

    def count(self, targets: Int[Tensor, "..."]) -> int:
        """The bytes of all targets together; `targets` may be on any device."""
        learned = targets[targets != NO_TARGET]
        size = int(self._sizes.to(learned.device)[learned].sum())
        return size - self._saved_by_composing(learned.tolist()) if self._tokenizer.is_composing else size

    def _saved_by_composing(self, ids: list[int]) -> int:
        apart = b"".join(
            map(self._tokenizer.token_bytes, ids)
        )  # special tokens too: nothing joins across one
        return len(apart) - len(compose_bytes(apart))


def bits_per_byte(loss_nats: float, num_bytes: int) -> float:
    """Summed (not mean) loss in nats over `num_bytes` bytes of text, in bits a byte.

    >>> round(bits_per_byte(8.0, 4), 4)     # 8 nats / ln 2 / 4 bytes
    2.8854
    """
    return loss_nats / math.log(2) / num_bytes
