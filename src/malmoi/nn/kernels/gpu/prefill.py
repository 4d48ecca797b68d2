"""Attention of the queries of a prompt over keys that lie in a row, or in blocks of a pool.

Each program takes some positions of one head, and walks over the keys that they see. Place in the flow:
`kernels/prefill.py` calls it. Read next: `scores.py`; `decode.py`, single queries.
"""

from typing import no_type_check

import triton
import triton.language as tl
from jaxtyping import Float, Int32, Num
from torch import Tensor

from malmoi.nn.kernels.gpu.scores import KEYS, scores

QUERIES = 128
"""So many positions of a prompt does a program take."""


def prefill_attention(
    q: Float[Tensor, "T N H"],
    k: Num[Tensor, "tokens K H"],
    v: Num[Tensor, "tokens K Hv"],
    *,
    num_keys: int,
    is_causal: bool,
    scale: float,
    window: int | None,
    soft_cap: float | None,
    blocks: Int32[Tensor, " blocks"] | None,
    block_size: int,
) -> Float[Tensor, "T N Hv"]:
    """As `prefill.prefill_attention`."""
    num_queries, num_heads, head_dim = q.shape
    num_kv_heads, value_dim = v.shape[1:]
    out = q.new_empty(num_queries, num_heads, value_dim)
    size = QUERIES if q.itemsize == 2 else QUERIES // 4  # shared memory holds so much
    _prefill[(triton.cdiv(num_queries, size), num_heads)](
        q,
        k,
        v,
        k if blocks is None else blocks,
        out,
        num_queries,
        num_keys,
        scale,
        -1 if window is None else window,
        soft_cap or 0.0,
        blocks is not None,
        block_size,
        is_causal,
        num_heads,
        num_kv_heads,
        head_dim,
        value_dim,
        size,
        max(16, triton.next_power_of_2(head_dim)),
        max(16, triton.next_power_of_2(value_dim)),
        KEYS if q.itemsize == 2 else KEYS // 2,
        num_warps=8 if q.itemsize == 2 else 4,
        num_stages=3 if q.itemsize == 2 else 1,
    )
    return out


@triton.jit
@no_type_check
def _prefill(
    q,
    k,
    v,
    blocks,
    out,
    num_queries,
    num_keys,
    scale,
    window,
    soft_cap,
    HAS_BLOCKS: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    IS_CAUSAL: tl.constexpr,
    NUM_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    QUERIES: tl.constexpr,
    H: tl.constexpr,
    HV: tl.constexpr,
    KEYS: tl.constexpr,
):
    # The last queries first: they have the most keys, and would else be waited for.
    number, head = tl.num_programs(0) - 1 - tl.program_id(0), tl.program_id(1)
    kv_head = head // (NUM_HEADS // NUM_KV_HEADS)
    row, h, hv = number * QUERIES + tl.arange(0, QUERIES), tl.arange(0, H), tl.arange(0, HV)
    is_row = row < num_queries
    place = (row * NUM_HEADS + head)[:, None] * HEAD_DIM + h[None, :]
    queries = tl.load(q + place, mask=is_row[:, None] & (h[None, :] < HEAD_DIM), other=0.0)
    position = num_keys - num_queries + row

    start, end = 0, num_keys
    if IS_CAUSAL:
        end = tl.minimum(num_keys, num_keys - num_queries + (number + 1) * QUERIES)
    if window >= 0:
        start = tl.maximum(0, num_keys - num_queries + number * QUERIES - window + 1) // KEYS * KEYS
        if not IS_CAUSAL:
            end = tl.minimum(num_keys, num_keys - num_queries + (number + 1) * QUERIES + window)
    total = tl.zeros((QUERIES, HV), dtype=tl.float32)
    largest = tl.full((QUERIES,), -1e30, dtype=tl.float32)
    weight = tl.zeros((QUERIES,), dtype=tl.float32)
    for here in range(start, end, KEYS):
        at = here + tl.arange(0, KEYS)
        is_key = at < num_keys
        slot = at.to(tl.int64)
        if HAS_BLOCKS:
            block = tl.load(blocks + at // BLOCK_SIZE, mask=is_key, other=0).to(tl.int64)
            slot = block * BLOCK_SIZE + at % BLOCK_SIZE
        slot = slot * NUM_KV_HEADS + kv_head
        keys = tl.load(
            k + slot[:, None] * HEAD_DIM + h[None, :],
            mask=is_key[:, None] & (h[None, :] < HEAD_DIM),
            other=0.0,
        )
        values = tl.load(
            v + slot[:, None] * VALUE_DIM + hv[None, :],
            mask=is_key[:, None] & (hv[None, :] < VALUE_DIM),
            other=0.0,
        )
        seen = tl.broadcast_to(is_key[None, :], (QUERIES, KEYS))
        how_far_back = position[:, None] - at[None, :]
        if IS_CAUSAL:
            seen = seen & (how_far_back >= 0)
        if window >= 0:
            seen = seen & (how_far_back < window) & (how_far_back > -window)
        said = tl.where(seen, scores(queries, keys, scale, soft_cap), -1e30)
        new_largest = tl.maximum(largest, tl.max(said, 1))
        shrink = tl.exp(largest - new_largest)
        weights = tl.where(seen, tl.exp(said - new_largest[:, None]), 0.0)
        weight = weight * shrink + tl.sum(weights, 1)
        total = total * shrink[:, None] + tl.dot(weights.to(values.dtype), values, input_precision="ieee")
        largest = new_largest
    mean = total / tl.where(weight > 0, weight, 1.0)[:, None]
    to = (row * NUM_HEADS + head)[:, None] * VALUE_DIM + hv[None, :]
    tl.store(out + to, mean.to(out.dtype.element_ty), mask=is_row[:, None] & (hv[None, :] < VALUE_DIM))
