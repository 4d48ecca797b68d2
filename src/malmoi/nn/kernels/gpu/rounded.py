"""A few rows times a matrix of 8 or 4 bits: its codes are read as they lie, and become numbers on the way.

Decoding waits for memory, and codes are half of it, or a quarter. They lie as `kernels/packing.py` says: a word has the
next 4 (int8) or 8 (int4) inputs of an output. A single row is multiplied number by number; several have a matrix unit,
for which the codes of a word are put in a row. Place in the flow: `kernels/packed_product.py` calls this. Read next:
`product.py`, one row and a plain matrix.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import BFloat16, Float, UInt8
from torch import Tensor

from malmoi.nn.kernels.gpu.overlap import launch_options, wait

MOST_ROWS = 64
"""With more of them arithmetic counts too, and a library's product of the plain matrix is faster."""


def rounded_product(
    x: Float[Tensor, "*batch I"],
    codes: UInt8[Tensor, "panels steps 32 4"],
    scales: BFloat16[Tensor, "panels groups 32"],
    bias: Float[Tensor, " O"] | None,
    *,
    bits: int,
    out_size: int,
) -> Float[Tensor, "*batch O"]:
    """`x W^T + b` for at most `MOST_ROWS` rows, summed in fp32; with several, a weight has the precision of x."""
    num_inputs, num_steps, num_groups = x.shape[-1], codes.shape[1], scales.shape[1]
    num_rows = x.numel() // num_inputs
    out = x.new_empty(*x.shape[:-1], out_size)
    of = (x, codes.view(torch.int32), scales, x if bias is None else bias, out)
    sizes = (num_inputs, out_size, num_steps, num_groups, num_steps // num_groups, bits, bias is not None)
    options = launch_options(x.device)
    if num_rows == 1:
        _row_product[(triton.cdiv(out_size, 16),)](*of, *sizes, 16, 128, num_warps=8, **options)
    else:
        rows = max(16, triton.next_power_of_2(num_rows))
        steps = (512 if x.itemsize == 2 else 128) * bits // 64  # so that as many inputs are looked at at a time
        _rows_product[(triton.cdiv(out_size, 32),)](
            *of, num_rows, *sizes, rows, 32, steps, num_warps=4, num_stages=3, **options
        )
    return out


@triton.jit
@no_type_check
def _code(words, number: tl.constexpr, BITS: tl.constexpr):
    """The code of the input `number` of each word, as a number; the lower halves of all four bytes come first.

    A code below the bits of the float 2^23 makes it 2^23 + code: a conversion would take several times as long.
    """
    shift: tl.constexpr = 8 * (number % 4) + 4 * (number // 4)
    above = ((words >> shift) & ((1 << BITS) - 1)) | 0x4B000000
    return above.to(tl.float32, bitcast=True) - (8388608.0 + (1 << (BITS - 1)))


@triton.jit
@no_type_check
def _row_product(
    x,
    words,
    scales,
    bias,
    out,
    NUM_INPUTS: tl.constexpr,
    NUM_OUTPUTS: tl.constexpr,
    NUM_STEPS: tl.constexpr,
    NUM_GROUPS: tl.constexpr,
    STEPS_A_GROUP: tl.constexpr,
    BITS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    STEPS: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    CODES: tl.constexpr = 32 // BITS
    o = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    panel, lane = (tl.program_id(0) * OUTPUTS // 32).to(tl.int64), o % 32
    s = tl.arange(0, STEPS)
    at = words + (panel * NUM_STEPS + s)[:, None] * 32 + lane[None, :]
    # The first words are read while the kernel that makes x still runs.
    word = tl.load(at, mask=(s < NUM_STEPS)[:, None], other=0, eviction_policy="evict_first")
    wait(OVERLAPS)
    total = tl.zeros((STEPS, OUTPUTS), dtype=tl.float32)
    for start in range(0, NUM_STEPS, STEPS):
        step = start + s
        at += STEPS * 32
        ahead = tl.load(at, mask=(step + STEPS < NUM_STEPS)[:, None], other=0, eviction_policy="evict_first")
        scale = tl.load(
            scales + (panel * NUM_GROUPS + step // STEPS_A_GROUP)[:, None] * 32 + lane[None, :],
            mask=(step < NUM_STEPS)[:, None],
            other=0.0,
        )
        of_word = tl.zeros((STEPS, OUTPUTS), dtype=tl.float32)
        for number in tl.static_range(CODES):
            i = step * CODES + number
            numbers = tl.load(x + i, mask=i < NUM_INPUTS, other=0.0).to(tl.float32)
            of_word += _code(word, number, BITS) * numbers[:, None]
        total += of_word * scale.to(tl.float32)
        word = ahead
    y = tl.sum(total, 0)
    is_output = o < NUM_OUTPUTS
    if HAS_BIAS:
        y += tl.load(bias + o, mask=is_output, other=0.0).to(tl.float32)
    tl.store(out + o, y.to(out.dtype.element_ty), mask=is_output)


@triton.jit
@no_type_check
def _rows_product(
    x,
    words,
    scales,
    bias,
    out,
    num_rows,
    NUM_INPUTS: tl.constexpr,
    NUM_OUTPUTS: tl.constexpr,
    NUM_STEPS: tl.constexpr,
    NUM_GROUPS: tl.constexpr,
    STEPS_A_GROUP: tl.constexpr,
    BITS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    STEPS: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    CODES: tl.constexpr = 32 // BITS
    wait(OVERLAPS)
    o = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    panel, lane = (tl.program_id(0) * OUTPUTS // 32).to(tl.int64), o % 32
    row, s = tl.arange(0, ROWS), tl.arange(0, STEPS)
    is_row = (row < num_rows)[:, None]
    total = tl.zeros((ROWS, OUTPUTS), dtype=tl.float32)
    for start in range(0, NUM_STEPS, STEPS):
        step = start + s
        is_step = (step < NUM_STEPS)[:, None]
        word = tl.load(
            words + (panel * NUM_STEPS + step)[:, None] * 32 + lane[None, :], mask=is_step, other=0
        )
        scale = tl.load(
            scales + (panel * NUM_GROUPS + step // STEPS_A_GROUP)[:, None] * 32 + lane[None, :],
            mask=is_step,
            other=0.0,
        ).to(tl.float32)
        # Joined pair by pair, the numbers of a word end up in their order.
        even = tl.join(_weight(word, scale, 0, BITS, x), _weight(word, scale, 2, BITS, x))
        odd = tl.join(_weight(word, scale, 1, BITS, x), _weight(word, scale, 3, BITS, x))
        weights = tl.join(even, odd)  # steps, outputs, half, parity
        if BITS == 4:
            even = tl.join(_weight(word, scale, 4, BITS, x), _weight(word, scale, 6, BITS, x))
            odd = tl.join(_weight(word, scale, 5, BITS, x), _weight(word, scale, 7, BITS, x))
            weights = tl.join(weights, tl.join(even, odd))
            weights = tl.permute(weights, (0, 4, 2, 3, 1))
        else:
            weights = tl.permute(weights, (0, 2, 3, 1))
        weights = tl.reshape(weights, (STEPS * CODES, OUTPUTS))
        i = start * CODES + tl.arange(0, STEPS * CODES)
        numbers = tl.load(
            x + row[:, None] * NUM_INPUTS + i[None, :], mask=is_row & (i < NUM_INPUTS)[None, :], other=0.0
        )
        total = tl.dot(numbers, weights, total, input_precision="ieee")
    is_output = o < NUM_OUTPUTS
    if HAS_BIAS:
        total += tl.load(bias + o, mask=is_output, other=0.0).to(tl.float32)[None, :]
    tl.store(
        out + row[:, None] * NUM_OUTPUTS + o[None, :],
        total.to(out.dtype.element_ty),
        mask=is_row & is_output[None, :],
    )


@triton.jit
@no_type_check
def _weight(words, scale, number: tl.constexpr, BITS: tl.constexpr, like):
    return (_code(words, number, BITS) * scale).to(like.dtype.element_ty)
