"""What a step of a model asks of the machine: bytes from memory, and operations.

The operations are counted by `budget`'s rehearsal of the step; the bytes are those of the weights that it needs, each
once, and of the keys and values that it reads. Read next: `report.py`, which divides by the roofline.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from malmoi.bench.roofline import Roofline
from malmoi.budget import cache_bytes
from malmoi.budget.forwards import rehearse_step
from malmoi.nn.linear import Linear
from malmoi.nn.moe import MoE
from malmoi.nn.packed import PackedEmbedding
from malmoi.nn.stack import Decoder


@dataclass(frozen=True, kw_only=True)
class Work:
    """`flops` operations over `bytes` that have to be read.

    >>> work = Work(flops=2 * 10**9, bytes=10**9)                # a decoder of 0.5 B parameters in bf16, one token
    >>> roofline = Roofline(bandwidth=20e9, matrix_rate=1e12)
    >>> work.least_seconds(roofline), work.bound(roofline)
    (0.05, 'memory')
    """

    flops: int
    bytes: int

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.flops / self.bytes

    def least_seconds(self, roofline: Roofline) -> float:
        """What the slower of memory and arithmetic needs for it."""
        return max(self.bytes / roofline.bandwidth, self.flops / roofline.matrix_rate)

    def bound(self, roofline: Roofline) -> Literal["memory", "arithmetic"]:
        """Which of the two that is."""
        is_read = self.bytes / roofline.bandwidth > self.flops / roofline.matrix_rate
        return "memory" if is_read else "arithmetic"


def step_work(model: Decoder, twin: Decoder, *, batch: int, length: int, num_new: int) -> Work:
    """What showing the last `num_new` of `length` tokens of each of `batch` sequences takes, with a row of logits each.

    `model` is what runs, `twin` the same without its memory (`budget.on_paper`), in the precision of the cache.
    """
    stored = batch * cache_bytes(twin.cache_specs(), length, element_size=twin.dtype.itemsize)
    return Work(
        flops=rehearse_step(twin, [length] * batch, [num_new] * batch).flops,
        bytes=weight_bytes_read(model, num_tokens=batch * num_new) + stored,
    )


def weight_bytes_read(model: Decoder, *, num_tokens: int) -> int:
    """Bytes of the weights that `num_tokens` tokens at once pass through, in the precision in which they lie.

    Of a table of embeddings that is not the head's too, they read a row each. Of the experts of a sparse layer, they
    read those that at least one of them chooses, if each chooses at random: E (1 - (1 - k / E)^n) of E.

    >>> from malmoi.testing.models import tiny_llama
    >>> model = tiny_llama()                                     # 259 rows of 32 in fp32, and a head as large
    >>> sum(p.nbytes for p in model.parameters()) - weight_bytes_read(model, num_tokens=1) == 258 * 32 * 4
    True
    """
    of_head = {weight.data_ptr() for weight in stored(model.head)}
    total = sum(weight.nbytes for weight in stored(model))
    for module in model.modules():
        if isinstance(module, nn.Embedding | PackedEmbedding):
            rows = module.num_embeddings
            table = [weight for weight in stored(module) if weight.data_ptr() not in of_head]
            total -= sum(weight.nbytes for weight in table) // rows * max(0, rows - num_tokens)
        elif isinstance(module, MoE):
            share = module.router.top_k / len(module.experts)
            total -= round(sum(w.nbytes for w in stored(module.experts)) * (1 - share) ** num_tokens)
    return total


def layer_shapes(model: Decoder) -> set[tuple[int, int]]:
    """(inputs, outputs) of the matrices of its layers, each once; the head's not, of which a prompt needs a single row.

    >>> from malmoi.testing.models import tiny_llama
    >>> sorted(layer_shapes(tiny_llama()))
    [(32, 16), (32, 32), (32, 64), (64, 32)]
    """
    return {(m.in_features, m.out_features) for m in model.blocks.modules() if isinstance(m, Linear)}


def stored(module: nn.Module) -> list[Tensor]:
    """What a module keeps in memory, packed weights too, a tied matrix once."""
    return [*module.parameters(), *module.buffers()]
