"""What stands between the products, in one pass each: the kernels of `kernels/rowwise.py` for a GPU.

A program takes a token, or a head of one. Tokens may lie apart in memory, as the parts of a joined product do. Place in
the flow: `kernels/rowwise.py` calls these. Read next: `attention.py`.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from malmoi.nn.kernels.gpu.overlap import launch_options, wait

NUMBERS = 1024
"""So many numbers does a program take where each is computed by itself."""


def rms_norm(
    x: Float[Tensor, "*batch D"], weight: Float[Tensor, " D"], eps: float, *, num_axes: int, stride: int
) -> Float[Tensor, "*batch D"]:
    """As `rowwise.rms_norm`; tokens, the last `num_axes` axes of x, lie `stride` numbers apart."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    size, num_heads = x.shape[-1], x.shape[-2] if num_axes == 2 else 1
    block = triton.next_power_of_2(size)
    how = {"num_warps": min(8, max(1, block // 512)), **launch_options(x.device)}
    _rms_norm[(x.numel() // size,)](x, weight, out, stride, num_heads, eps, size, block, **how)
    return out


@triton.jit
@no_type_check
def _rms_norm(
    x,
    weight,
    out,
    stride,
    num_heads,
    eps,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < SIZE
    start = (row // num_heads) * stride + (row % num_heads) * SIZE
    scale = tl.load(weight + at, mask=inside, other=0.0).to(tl.float32)
    wait(OVERLAPS)
    wide = tl.load(x + start + at, mask=inside, other=0.0).to(tl.float32)
    normed = wide * tl.rsqrt(tl.sum(wide * wide, 0) / SIZE + eps)
    # Rounded before the weight multiplies it, as the twin does.
    rounded = normed.to(out.dtype.element_ty).to(tl.float32)
    tl.store(out + row * SIZE + at, (rounded * scale).to(out.dtype.element_ty), mask=inside)


def rotate_halves(
    x: Float[Tensor, "B T N H"],
    cos: Float[Tensor, "B T 1 half"],
    sin: Float[Tensor, "B T 1 half"],
    *,
    stride: int,
) -> Float[Tensor, "B T N H"]:
    """As `rowwise.rotate_halves`; `cos` and `sin` in fp32 and whole, tokens `stride` numbers apart."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    num_heads, half = x.shape[2], x.shape[3] // 2
    width = triton.next_power_of_2(half)
    heads = max(1, NUMBERS // width)
    grid = (x.shape[0] * x.shape[1], triton.cdiv(num_heads, heads))
    options = launch_options(x.device)
    _rotate[grid](x, cos, sin, out, stride, num_heads, half, heads, width, **options)
    return out


@triton.jit
@no_type_check
def _rotate(
    x,
    cos,
    sin,
    out,
    stride,
    NUM_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    wait(OVERLAPS)
    token = tl.program_id(0).to(tl.int64)
    head = (tl.program_id(1) * HEADS + tl.arange(0, HEADS))[:, None]
    at = tl.arange(0, WIDTH)[None, :]
    inside = (head < NUM_HEADS) & (at < HALF)
    c = tl.load(cos + token * HALF + at, mask=at < HALF, other=0.0)
    s = tl.load(sin + token * HALF + at, mask=at < HALF, other=0.0)
    place = head * (2 * HALF) + at
    first = tl.load(x + token * stride + place, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(x + token * stride + place + HALF, mask=inside, other=0.0).to(tl.float32)
    to = out + token * (NUM_HEADS * 2 * HALF) + place
    tl.store(to, (first * c - second * s).to(out.dtype.element_ty), mask=inside)
    tl.store(to + HALF, (second * c + first * s).to(out.dtype.element_ty), mask=inside)


def gated(
    gate: Float[Tensor, "*batch F"],
    up: Float[Tensor, "*batch F"],
    linear: float,
    cubic: float,
    *,
    gate_stride: int,
    up_stride: int,
) -> Float[Tensor, "*batch F"]:
    """As `rowwise.gated`, with the activation `x * sigmoid(linear x + cubic x^3)`."""
    out = torch.empty_like(gate, memory_format=torch.contiguous_format)
    size = gate.shape[-1]
    grid = (gate.numel() // size, triton.cdiv(size, NUMBERS))
    options = launch_options(gate.device)
    _gated[grid](gate, up, out, gate_stride, up_stride, linear, cubic, size, NUMBERS, **options)
    return out


@triton.jit
@no_type_check
def _gated(
    gate,
    up,
    out,
    gate_stride,
    up_stride,
    linear,
    cubic,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    wait(OVERLAPS)
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = at < SIZE
    x = tl.load(gate + row * gate_stride + at, mask=inside, other=0.0).to(tl.float32)
    y = tl.load(up + row * up_stride + at, mask=inside, other=0.0).to(tl.float32)
    activated = x / (1.0 + tl.exp(-x * (linear + cubic * x * x)))
    tl.store(out + row * SIZE + at, (activated * y).to(out.dtype.element_ty), mask=inside)


def store(
    k_pool: Float[Tensor, "slots K H"],
    v_pool: Float[Tensor, "slots K Hv"],
    slots: Int[Tensor, " T"],
    k: Float[Tensor, "*batch T K H"],
    v: Float[Tensor, "*batch T K Hv"],
    *,
    k_stride: int,
    v_stride: int,
) -> None:
    """As `rowwise.store`: keys and values in one launch (mutates the pools). Slots are not checked."""
    k_size, v_size = k_pool.shape[1] * k_pool.shape[2], v_pool.shape[1] * v_pool.shape[2]
    blocks = triton.cdiv(max(k_size, v_size), NUMBERS)
    options = launch_options(k.device)
    _store[(len(slots), blocks)](
        k_pool, v_pool, slots, k, v, k_stride, v_stride, k_size, v_size, NUMBERS, **options
    )


@triton.jit
@no_type_check
def _store(
    k_pool,
    v_pool,
    slots,
    k,
    v,
    k_stride,
    v_stride,
    K_SIZE: tl.constexpr,
    V_SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    wait(OVERLAPS)
    token = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    slot = tl.load(slots + token)
    keys = tl.load(k + token * k_stride + at, mask=at < K_SIZE, other=0.0)
    tl.store(k_pool + slot * K_SIZE + at, keys.to(k_pool.dtype.element_ty), mask=at < K_SIZE)
    values = tl.load(v + token * v_stride + at, mask=at < V_SIZE, other=0.0)
    tl.store(v_pool + slot * V_SIZE + at, values.to(v_pool.dtype.element_ty), mask=at < V_SIZE)


def add(x: Float[Tensor, "*batch D"], y: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
    """`x + y`, both whole in memory. PyTorch has it, but its kernel overlaps with none."""
    out = torch.empty_like(x)
    options = launch_options(x.device)
    _add[(triton.cdiv(x.numel(), NUMBERS),)](x, y, out, x.numel(), NUMBERS, **options)
    return out


@triton.jit
@no_type_check
def _add(x, y, out, size, BLOCK: tl.constexpr, OVERLAPS: tl.constexpr):
    wait(OVERLAPS)
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    total = tl.load(x + at, mask=inside).to(tl.float32) + tl.load(y + at, mask=inside).to(tl.float32)
    tl.store(out + at, total.to(out.dtype.element_ty), mask=inside)
