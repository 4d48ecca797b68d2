"""`y = x W^T + b` with a packed W (`packing.py`): the kernel in C++ and its twin.

Decoding is bound by the memory that W takes, so its kernels read it once, in order; with many rows they are matrix
products as any. Place in the flow: `nn/packed.py` and `nn/quantized.py` call this. Read next: `csrc/linear.h`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import BFloat16, Float
from torch import Tensor

from malmoi.nn.kernels.native import kernels_for
from malmoi.nn.kernels.on_gpu import gpu_kernels_for
from malmoi.nn.kernels.packing import FORMAT, Rounded, unpack, unround


def packed_product(
    x: Float[Tensor, "*batch I"],
    panels: BFloat16[Tensor, "panels steps 32 2"],
    bias: Float[Tensor, " O"] | None,
    *,
    out_size: int,
) -> Float[Tensor, "*batch O"]:
    """The product of bf16 rows and bf16 weights, summed in fp32; the twin is also for other precisions.

    A row gets the same bits alone, in any batch and on any number of threads.
    """
    kernels = None
    if x.dtype is torch.bfloat16:
        kernels = kernels_for(x) if bias is None else kernels_for(x, bias)
    if kernels is None:
        return packed_product_reference(x, panels, bias, out_size=out_size)
    return _product(kernels, x, panels, None, bias, out_size)


def packed_product_reference(
    x: Float[Tensor, "*batch I"],
    panels: BFloat16[Tensor, "panels steps 32 2"],
    bias: Float[Tensor, " O"] | None,
    *,
    out_size: int,
) -> Float[Tensor, "*batch O"]:
    """The same, unpacked first."""
    return F.linear(x, unpack(panels, out_size, x.shape[-1]).to(x.dtype), bias)


def rounded_product(
    x: Float[Tensor, "*batch I"],
    rounded: Rounded,
    bias: Float[Tensor, " O"] | None,
    *,
    out_size: int,
) -> Float[Tensor, "*batch O"]:
    """The product with weights of 8 or 4 bits; x is rounded to 8 bits too, each group of a row by its own scale.

    So a group's sum is exact, in whole numbers. A row gets the same bits alone, in any batch and on any number of
    threads. A group of x with a number that is not finite makes its row NaN. Where a gradient is asked for, x is not
    rounded: rounding has none; nor on a GPU, whose kernel multiplies in the precision of x.
    """
    if (gpu := gpu_kernels_for(*([x] if bias is None else [x, bias]))) is not None:
        return _product_on_gpu(gpu, x, rounded, bias, out_size)
    wide = x if x.dtype in (torch.bfloat16, torch.float32) else x.float()
    shift = None if bias is None else bias.to(wide.dtype)
    kernels = kernels_for(wide) if shift is None else kernels_for(wide, shift)
    if kernels is None:
        return rounded_product_reference(x, rounded, bias, out_size=out_size)
    out = _product(kernels, wide, rounded.codes, rounded, shift, out_size)
    return out if wide is x else out.to(x.dtype)


def rounded_product_reference(
    x: Float[Tensor, "*batch I"],
    rounded: Rounded,
    bias: Float[Tensor, " O"] | None,
    *,
    out_size: int,
) -> Float[Tensor, "*batch O"]:
    """The same in fp32, on the numbers that the codes stand for."""
    weight = unround(rounded, out_size=out_size, in_size=x.shape[-1])
    is_recorded = torch.is_grad_enabled() and x.requires_grad
    seen = x.float() if is_recorded else round_rows(x, group_size_of(rounded))
    return F.linear(seen, weight, None if bias is None else bias.float()).to(x.dtype)


def round_rows(x: Float[Tensor, "*batch I"], group_size: int) -> Float[Tensor, "*batch I"]:
    """What 8 bits keep of each group: its largest number is 127 or -127. Of fp32, the numbers, not the codes.

    >>> round_rows(torch.tensor([1.0, 0.5, 0.001]), group_size=32)      # 127, 64 and 0 of 1 / 127
    tensor([1.0000, 0.5039, 0.0000])
    """
    groups = torch.unflatten(F.pad(x.float(), (0, -x.shape[-1] % group_size)), -1, (-1, group_size))
    largest = groups.abs().amax(dim=-1, keepdim=True)
    factor = torch.where(largest > 1e-35, 127 / largest, 0.0)
    scale = torch.where(largest.isfinite(), largest / 127, torch.nan)
    return ((groups * factor).round() * scale).flatten(-2)[..., : x.shape[-1]]


def group_size_of(rounded: Rounded) -> int:
    """How many inputs share a scale."""
    steps, groups = rounded.codes.shape[1], rounded.scales.shape[1]
    return steps * (8 if rounded.precision == "int4" else 4) // groups


def _product_on_gpu(gpu: Any, x: Tensor, rounded: Rounded, bias: Tensor | None, out_size: int) -> Tensor:
    if x.numel() > gpu.MOST_ROWS * x.shape[-1]:
        return F.linear(x, unround(rounded, out_size=out_size, in_size=x.shape[-1]).to(x.dtype), bias)
    bits = 4 if rounded.precision == "int4" else 8
    out: Tensor = gpu.rounded_product(
        x.contiguous(), rounded.codes, rounded.scales, bias, bits=bits, out_size=out_size
    )
    return out


def _product(
    kernels: Any, x: Tensor, weights: Tensor, rounded: Rounded | None, bias: Tensor | None, out_size: int
) -> Tensor:
    in_size = x.shape[-1]
    if rounded is None:
        code, group_size, depth, scales = FORMAT["bf16"], 0, 2 * weights.shape[1], 0
    else:
        code, group_size = FORMAT[rounded.precision], group_size_of(rounded)
        depth, scales = rounded.scales.shape[1] * group_size, rounded.scales.data_ptr()
    x = x.contiguous()
    out = x.new_empty(*x.shape[:-1], out_size)
    kernels.linear(
        code,
        x.dtype is torch.bfloat16,
        x.numel() // in_size,
        in_size,
        out_size,
        depth,
        group_size,
        x.data_ptr(),
        weights.data_ptr(),
        scales,
        0 if bias is None else bias.contiguous().data_ptr(),
        out.data_ptr(),
        torch.get_num_threads(),
    )
    return out
