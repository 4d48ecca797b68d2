"""Attention over keys that lie in a pool of slots: read in place where a kernel can, else a sequence at a time.

Sequences that decode, one query each, come first in a step; `paged_decode` takes them all at once, and
`prefill_attention` each of the others, if there are kernels for this processor, precision and width. Else a sequence's
keys are gathered when its turn comes: they are still in the processor's cache when its queries meet them, where all
sequences gathered first would be fetched, written and fetched again. What one sequence gets does not depend on which
others are in the batch. Place in the flow: `attend` calls it in every step of the engine. Read next: `paged_decode.py`,
`prefill.py`, `rows.py`, `ragged.py`.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from malmoi.nn.cache import BlockTables, PagedCache, PagedStep, PagedView
from malmoi.nn.kernels.paged_decode import paged_decode
from malmoi.nn.kernels.prefill import can_prefill, prefill_attention
from malmoi.nn.kernels.ragged import ragged_attention
from malmoi.nn.kernels.rows import rows_attention


def paged_attention(
    q: Float[Tensor, "1 T N H"],
    cached: PagedView,
    *,
    is_causal: bool,
    scale: float,
    window: int | None = None,
    soft_cap: float | None = None,
    bias: Callable[[int, int], Tensor] | None = None,
) -> Float[Tensor, "1 T N Hv"]:
    """`reference.ragged_attention_reference` over what a pool holds; no fewer keys than queries if causal."""
    pool, step = cached.pool, cached.step
    rule: Any = {"scale": scale, "window": window, "soft_cap": soft_cap}
    if step.blocks is not None and bias is None and can_prefill(q, pool.k, pool.v, pool.scales):
        rule["scales"] = pool.scales
        return _read_in_place(q[0], pool, step, step.blocks, is_causal=is_causal, **rule)[None]
    outs = []
    for own, seen in zip(step.queries, pairwise(step.key_offsets.tolist()), strict=True):
        own_q = q[:, slice(*own)]
        k, v = (x.to(q.dtype)[None] for x in pool.read(step.slots_to_read[slice(*seen)]))
        if own_q.shape[1] == 1:
            outs.append(rows_attention(own_q, k, v, is_causal=is_causal, bias=bias, **rule))
        else:
            offsets = (torch.tensor([0, x.shape[1]]) for x in (own_q, k))
            outs.append(ragged_attention(own_q, k, v, *offsets, is_causal=is_causal, bias=bias, **rule))
    return torch.cat(outs, dim=1)


def _read_in_place(
    q: Tensor, pool: PagedCache, step: PagedStep, blocks: BlockTables, *, is_causal: bool, **rule: Any
) -> Tensor:
    """The kernels' part: first the single queries, then each longer one with its row of blocks."""
    num_decoded, size = step.num_decoded, blocks.block_size
    if num_decoded == len(step.queries):
        return paged_decode(q, pool.k, pool.v, blocks.tables, blocks.lengths, block_size=size, **rule)
    outs = []
    if num_decoded:
        single = (q[:num_decoded], pool.k, pool.v, blocks.tables[:num_decoded], blocks.lengths[:num_decoded])
        outs.append(paged_decode(*single, block_size=size, **rule))
    for own, table, length in list(zip(step.queries, blocks.tables, blocks.num_keys, strict=True))[
        num_decoded:
    ]:
        said: Any = {"num_keys": length, "blocks": table, "block_size": size}
        outs.append(prefill_attention(q[slice(*own)], pool.k, pool.v, is_causal=is_causal, **said, **rule))
    return torch.cat(outs)
