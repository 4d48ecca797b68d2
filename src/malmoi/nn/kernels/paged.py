"""Attention over keys that lie in a pool of slots: read in place where a kernel can, else a sequence at a time.

Sequences that decode, one query each, come first in a step; `paged_decode` takes them all at once, if there is a kernel
for this processor, precision and width. The keys of any other sequence are gathered when its turn comes: they are still
in the processor's cache when its queries meet them, where all sequences gathered first would be fetched, written and
fetched again. What one sequence gets does not depend on which others are in the batch. Place in the flow: `attend`
calls it in every step of the engine. Read next: `paged_decode.py`, `rows.py`, `ragged.py`.
"""

from collections.abc import Callable
from itertools import pairwise, takewhile
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from malmoi.nn.cache import PagedView
from malmoi.nn.kernels.native import kernels_for
from malmoi.nn.kernels.paged_decode import LANES, paged_decode
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
    queries = list(pairwise(step.query_offsets.tolist()))
    keys = list(pairwise(step.key_offsets.tolist()))
    outs, num_decoded = [], 0
    if step.blocks is not None and bias is None and _can_decode(q, pool.k, pool.v):
        num_decoded = len(list(takewhile(lambda span: span[1] - span[0] == 1, queries)))
        decoded = paged_decode(
            q[0, :num_decoded],
            pool.k,
            pool.v,
            step.blocks.tables[:num_decoded],
            step.blocks.lengths[:num_decoded],
            block_size=step.blocks.block_size,
            scale=scale,
            window=window,
            soft_cap=soft_cap,
        )
        outs.append(decoded[None])
    said: Any = {
        "is_causal": is_causal, "scale": scale, "window": window, "soft_cap": soft_cap, "bias": bias,
    }  # fmt: skip
    for own, seen in zip(queries[num_decoded:], keys[num_decoded:], strict=True):
        own_q = q[:, slice(*own)]
        k, v = (x.to(q.dtype)[None] for x in pool.read(step.read[slice(*seen)]))
        if own_q.shape[1] == 1:
            outs.append(rows_attention(own_q, k, v, **said))
        else:
            offsets = (torch.tensor([0, x.shape[1]]) for x in (own_q, k))
            outs.append(ragged_attention(own_q, k, v, *offsets, **said))
    return torch.cat(outs, dim=1)


def _can_decode(q: Tensor, k_pool: Tensor, v_pool: Tensor) -> bool:
    """Whether `paged_decode` has more than its twin for these."""
    is_wide = not q.shape[-1] % LANES and not v_pool.shape[-1] % LANES
    return is_wide and kernels_for(q, k_pool, v_pool) is not None
