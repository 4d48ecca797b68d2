"""Attention over keys that lie in blocks of a pool: single queries, and the many of a prompt.

Both are flash attention (Dao et al. 2022, arXiv:2205.14135, section 3.1): scores of a few keys exist at a time, in
fp32, and the softmax is corrected as larger ones come. A single query leaves most of a GPU idle, so its keys are cut
into parts that are attended to at the same time and put together after (flash-decoding, Dao et al. 2023,
pytorch.org/blog/flash-decoding). Place in the flow: `kernels/paged_decode.py` and `kernels/prefill.py` call these.
"""

from functools import cache
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int32, Num
from torch import Tensor

from malmoi.nn.kernels.gpu.overlap import launch_options, wait

KEYS = 64
"""So many keys are looked at at a time."""
QUERIES = 128
"""So many positions of a prompt does a program take."""
ROWS = 16
"""A matrix unit takes no fewer rows: the query heads that share a key head are padded to as many."""


def paged_decode(
    q: Float[Tensor, "B N H"],
    k_pool: Num[Tensor, "slots K H"],
    v_pool: Num[Tensor, "slots K Hv"],
    blocks: Int32[Tensor, "B max_blocks"],
    lengths: Int32[Tensor, " B"],
    *,
    block_size: int,
    scale: float,
    window: int | None,
    soft_cap: float | None,
) -> Float[Tensor, "B N Hv"]:
    """As `paged_decode.paged_decode`; lengths are not checked, which would have to wait for the GPU."""
    num_sequences, num_heads, head_dim = q.shape
    num_kv_heads, value_dim = v_pool.shape[1:]
    num_parts = _num_parts(num_sequences * num_kv_heads, blocks.shape[1] * block_size, q.device)
    out = q.new_empty(num_sequences, num_heads, value_dim)
    parts = q.new_empty((num_parts, num_sequences, num_heads, value_dim), dtype=torch.float32)
    sums = q.new_empty((2, num_parts, num_sequences, num_heads), dtype=torch.float32)
    num_shared, options = num_heads // num_kv_heads, launch_options(q.device)
    _decode[(num_sequences, num_kv_heads, num_parts)](
        q,
        k_pool,
        v_pool,
        blocks,
        lengths,
        parts,
        sums,
        blocks.stride(0),
        block_size,
        scale,
        -1 if window is None else window,
        soft_cap or 0.0,
        num_kv_heads,
        num_shared,
        head_dim,
        value_dim,
        max(ROWS, triton.next_power_of_2(num_shared)),
        max(16, triton.next_power_of_2(head_dim)),
        max(16, triton.next_power_of_2(value_dim)),
        KEYS,
        num_warps=4,
        num_stages=3,
        **options,
    )
    _put_together[(num_sequences, num_heads)](
        parts, sums, out, num_parts, value_dim, triton.next_power_of_2(value_dim), num_warps=2, **options
    )
    return out


@cache
def _num_multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4


def _num_parts(num_programs: int, most_keys: int, device: torch.device) -> int:
    """Into how many parts the keys are cut: so many that two programs wait for memory on each multiprocessor."""
    wanted = min(2 * _num_multiprocessors(device) // num_programs, most_keys // (2 * KEYS), 32)
    return int(triton.next_power_of_2(max(1, wanted)))


@triton.jit
@no_type_check
def _scores(q, keys, scale, soft_cap):
    """Scores of queries (rows) and keys (rows), in fp32."""
    scores = tl.dot(q, tl.trans(keys), input_precision="ieee") * scale
    if soft_cap > 0:
        bent = 2.0 * scores / soft_cap
        scores = soft_cap * (1.0 - 2.0 / (tl.exp(bent) + 1.0))  # tanh
    return scores


@triton.jit
@no_type_check
def _decode(
    q,
    k_pool,
    v_pool,
    blocks,
    lengths,
    parts,
    sums,
    blocks_stride,
    BLOCK_SIZE: tl.constexpr,
    scale,
    window,
    soft_cap,
    NUM_KV_HEADS: tl.constexpr,
    SHARED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    ROWS: tl.constexpr,
    H: tl.constexpr,
    HV: tl.constexpr,
    KEYS: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    wait(OVERLAPS)
    sequence, kv_head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    num_sequences, num_parts = tl.num_programs(0), tl.num_programs(2)
    num_heads = NUM_KV_HEADS * SHARED
    row, h, hv = tl.arange(0, ROWS), tl.arange(0, H), tl.arange(0, HV)
    head = kv_head * SHARED + row
    is_head = row < SHARED
    place = (sequence * num_heads + head)[:, None] * HEAD_DIM + h[None, :]
    queries = tl.load(q + place, mask=is_head[:, None] & (h[None, :] < HEAD_DIM), other=0.0)

    length = tl.load(lengths + sequence)
    first = tl.where(window < 0, 0, tl.maximum(length - window, 0))
    size = tl.cdiv(tl.cdiv(length - first, num_parts), KEYS) * KEYS
    start = first + part * size
    end = tl.minimum(start + size, length)
    total = tl.zeros((ROWS, HV), dtype=tl.float32)
    largest = tl.full((ROWS,), -1e30, dtype=tl.float32)  # not -inf: a part without keys has no largest
    weight = tl.zeros((ROWS,), dtype=tl.float32)
    for here in range(start, end, KEYS):
        at = here + tl.arange(0, KEYS)
        seen = at < end
        block = tl.load(blocks + sequence * blocks_stride + at // BLOCK_SIZE, mask=seen, other=0).to(tl.int64)
        slot = (block * BLOCK_SIZE + at % BLOCK_SIZE) * NUM_KV_HEADS + kv_head
        keys = tl.load(
            k_pool + slot[:, None] * HEAD_DIM + h[None, :],
            mask=seen[:, None] & (h[None, :] < HEAD_DIM),
            other=0.0,
        )
        values = tl.load(
            v_pool + slot[:, None] * VALUE_DIM + hv[None, :],
            mask=seen[:, None] & (hv[None, :] < VALUE_DIM),
            other=0.0,
        )
        scores = tl.where(seen[None, :], _scores(queries, keys, scale, soft_cap), -1e30)
        new_largest = tl.maximum(largest, tl.max(scores, 1))
        shrink = tl.exp(largest - new_largest)
        weights = tl.where(seen[None, :], tl.exp(scores - new_largest[:, None]), 0.0)
        weight = weight * shrink + tl.sum(weights, 1)
        total = total * shrink[:, None] + tl.dot(weights.to(values.dtype), values, input_precision="ieee")
        largest = new_largest
    at_part = (part * num_sequences + sequence) * num_heads + head
    tl.store(
        parts + at_part[:, None] * VALUE_DIM + hv[None, :],
        total,
        mask=is_head[:, None] & (hv[None, :] < VALUE_DIM),
    )
    tl.store(sums + at_part, largest, mask=is_head)
    tl.store(sums + num_parts * num_sequences * num_heads + at_part, weight, mask=is_head)


@triton.jit
@no_type_check
def _put_together(
    parts,
    sums,
    out,
    NUM_PARTS: tl.constexpr,
    VALUE_DIM: tl.constexpr,
    HV: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    wait(OVERLAPS)
    num_rows = tl.num_programs(0) * tl.num_programs(1)
    row = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    part, hv = tl.arange(0, NUM_PARTS), tl.arange(0, HV)
    largest = tl.load(sums + part * num_rows + row)
    weight = tl.load(sums + (NUM_PARTS + part) * num_rows + row)
    shrink = tl.exp(largest - tl.max(largest, 0))
    totals = tl.load(
        parts + (part * num_rows + row)[:, None] * VALUE_DIM + hv[None, :],
        mask=hv[None, :] < VALUE_DIM,
        other=0.0,
    )
    mean = tl.sum(totals * shrink[:, None], 0) / tl.sum(weight * shrink, 0)
    tl.store(out + row * VALUE_DIM + hv, mean.to(out.dtype.element_ty), mask=hv < VALUE_DIM)


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
        scores = tl.where(seen, _scores(queries, keys, scale, soft_cap), -1e30)
        new_largest = tl.maximum(largest, tl.max(scores, 1))
        shrink = tl.exp(largest - new_largest)
        weights = tl.where(seen, tl.exp(scores - new_largest[:, None]), 0.0)
        weight = weight * shrink + tl.sum(weights, 1)
        total = total * shrink[:, None] + tl.dot(weights.to(values.dtype), values, input_precision="ieee")
        largest = new_largest
    mean = total / tl.where(weight > 0, weight, 1.0)[:, None]
    to = (row * NUM_HEADS + head)[:, None] * VALUE_DIM + hv[None, :]
    tl.store(out + to, mean.to(out.dtype.element_ty), mask=is_row[:, None] & (hv[None, :] < VALUE_DIM))
