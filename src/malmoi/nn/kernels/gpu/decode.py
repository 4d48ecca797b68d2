"""Attention of single queries over keys that lie in blocks of a pool.

A single query leaves most of a GPU idle, so its keys are cut into parts that are attended to at the same time and put
together after (flash-decoding, Dao et al. 2023, pytorch.org/blog/flash-decoding). Place in the flow:
`kernels/paged_decode.py` calls it. Read next: `scores.py`; `prefill.py`, the many queries of a prompt.
"""

from functools import cache
from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int32, Num
from torch import Tensor

from malmoi.nn.kernels.gpu.overlap import launch_options, wait
from malmoi.nn.kernels.gpu.scores import KEYS, scores

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
        said = tl.where(seen[None, :], scores(queries, keys, scale, soft_cap), -1e30)
        new_largest = tl.maximum(largest, tl.max(said, 1))
        shrink = tl.exp(largest - new_largest)
        weights = tl.where(seen[None, :], tl.exp(said - new_largest[:, None]), 0.0)
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
