"""How a weight lies in memory so that one instruction reads what it multiplies, and how it is rounded to few bits.

A panel is 32 outputs; their weights lie side by side, two inputs at a time in bf16, four in int8, eight in int4:

    bf16   (panels, inputs / 2, 32, 2)
    int8   (panels, inputs / 4, 32, 4)      each a byte, 128 too high
    int4   (panels, inputs / 8, 32, 4)      each half a byte, 8 too high; the first four inputs are the lower halves
    scales (panels, groups, 32)             bf16, one for each output and group of inputs

Outputs and inputs are filled up with zeros. Read next: `packed_product.py`, which multiplies by them.
"""

import functools
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import BFloat16, Float, UInt8
from torch import Tensor

from malmoi.nn.kernels.native import in_large_pages, kernels_for

Precision = Literal["int8", "int4"]
PANEL = 32
FORMAT = {"bf16": 0, "int8": 1, "int4": 2}
"""What csrc/kernels.h calls them."""

_INPUTS_A_STEP = {"int8": 4, "int4": 8}
_ZERO = {"int8": 128, "int4": 8}
_TOPS = {
    "int8": (128.0, 127.0, 126.0, 125.0, 124.0, 123.0, 122.0, 121.0, 120.0),
    "int4": (8.0, 7.0, 7.25, 7.5, 7.75, 8.25, 8.5, 8.75, 9.0),
}
"""What a group's largest number becomes, its sign changed. All are tried, and of equal ones the first is kept."""


class Rounded(NamedTuple):
    """A matrix as whole numbers and a scale for each group of inputs: weight = scale * (code - zero)."""

    codes: UInt8[Tensor, "panels steps 32 4"]
    scales: BFloat16[Tensor, "panels groups 32"]
    precision: Precision

    @classmethod
    def empty(
        cls, out_size: int, in_size: int, precision: Precision, group_size: int, device: torch.device
    ) -> "Rounded":
        """Room for a matrix.

        >>> Rounded.empty(40, 100, "int4", 32, torch.device("meta")).codes.shape    # 100 inputs are 4 groups of 32
        torch.Size([2, 16, 32, 4])
        """
        panels, groups = -(-out_size // PANEL), -(-in_size // group_size)
        steps = groups * group_size // _INPUTS_A_STEP[precision]
        return cls(
            in_large_pages(torch.empty(panels, steps, PANEL, 4, dtype=torch.uint8, device=device)),
            torch.empty(panels, groups, PANEL, dtype=torch.bfloat16, device=device),
            precision,
        )


def pack(weight: BFloat16[Tensor, "O I"]) -> BFloat16[Tensor, "panels steps 32 2"]:
    """A matrix in panels.

    >>> pack(torch.ones(40, 6, dtype=torch.bfloat16)).shape
    torch.Size([2, 3, 32, 2])
    """
    kernels, (out_size, in_size) = kernels_for(weight), weight.shape
    if kernels is None:
        return _panels(_filled(weight, 2))
    panels = in_large_pages(weight.new_empty(-(-out_size // PANEL), -(-in_size // 2), PANEL, 2))
    depth, weight = 2 * panels.shape[1], weight.contiguous()
    threads = torch.get_num_threads()
    kernels.pack(
        FORMAT["bf16"],
        True,
        out_size,
        in_size,
        depth,
        0,
        weight.data_ptr(),
        panels.data_ptr(),
        0,
        threads,
    )
    return panels


def unpack(
    panels: BFloat16[Tensor, "panels steps 32 2"], out_size: int, in_size: int
) -> BFloat16[Tensor, "O I"]:
    """`pack` undone, bit for bit.

    >>> weight = torch.randn(40, 6).bfloat16()
    >>> torch.equal(unpack(pack(weight), 40, 6), weight)
    True
    """
    return _flat(panels)[:out_size, :in_size].contiguous()


def round_to(precision: Precision, weight: Float[Tensor, "O I"], group_size: int) -> Rounded:
    """Round each group of an output's weights to 8 or 4 bits by one scale.

    The largest number becomes -128 (int8) or -8 (int4), or a little less or more: of nine scales the one of the least
    squared error is kept. llama.cpp searches so for its K-quants (`make_qx_quants`), not for Q8_0 and Q4_0. What has
    been rounded is rounded to itself. A group with a number that is not finite has the scale NaN.

    >>> rounded = round_to("int8", torch.tensor([[1.27, -0.5]]), group_size=32)
    >>> unround(rounded, out_size=1, in_size=2)
    tensor([[ 1.2712, -0.5005]])
    """
    kernels, (out_size, in_size) = kernels_for(weight), weight.shape
    if kernels is None:
        return round_to_reference(precision, weight, group_size)
    rounded = Rounded.empty(out_size, in_size, precision, group_size, weight.device)
    depth, weight = rounded.scales.shape[1] * group_size, weight.contiguous()
    kernels.pack(
        FORMAT[precision],
        weight.dtype is torch.bfloat16,
        out_size,
        in_size,
        depth,
        group_size,
        weight.data_ptr(),
        rounded.codes.data_ptr(),
        rounded.scales.data_ptr(),
        torch.get_num_threads(),
    )
    return rounded


def round_to_reference(precision: Precision, weight: Float[Tensor, "O I"], group_size: int) -> Rounded:
    """The same, operator by operator."""
    groups = torch.unflatten(_filled(weight.float(), group_size), 1, (-1, group_size))
    highest, lowest = groups.amax(dim=-1), groups.amin(dim=-1)
    largest = torch.where(highest >= -lowest, highest, lowest)
    first, *others = ((largest / -top).bfloat16().float() for top in _TOPS[precision])
    scales, least = first, _errors(groups, first, precision)
    for tried in others:
        error = _errors(groups, tried, precision)
        scales, least = torch.where(error < least, tried, scales), torch.minimum(error, least)
    codes = _codes(groups, scales, precision)
    flat = (codes.flatten(1) + _ZERO[precision]).to(torch.uint8)
    if precision == "int4":
        halves = torch.unflatten(flat, 1, (-1, 2, 4))
        flat = (halves[:, :, 0] | halves[:, :, 1] << 4).flatten(1)
    is_finite = groups.isfinite().all(dim=-1)
    scales = torch.where(is_finite, scales, torch.nan).bfloat16()
    return Rounded(
        _panels(flat), torch.unflatten(scales, 0, (-1, PANEL)).transpose(1, 2).contiguous(), precision
    )


def unround(rounded: Rounded, *, out_size: int, in_size: int) -> Float[Tensor, "O I"]:
    """The matrix that the codes stand for, in fp32."""
    scales = rounded.scales.transpose(1, 2).flatten(0, 1)
    return _unrounded(_flat(rounded.codes), scales, rounded.precision)[:out_size, :in_size]


def unround_rows(rounded: Rounded, ids: Tensor, *, in_size: int) -> Float[Tensor, "n I"]:
    """The rows `ids` of that matrix."""
    codes, scales = rows_of(rounded.codes, ids).flatten(1), rows_of(rounded.scales, ids)
    return _unrounded(codes, scales, rounded.precision)[:, :in_size]


def rows_of(panels: Tensor, ids: Tensor) -> Tensor:
    """What the outputs `ids` have of packed weights or codes: (ids, steps, 2 or 4); of scales: (ids, groups)."""
    return panels[ids // PANEL, :, ids % PANEL]


def _filled(weight: Tensor, multiple: int) -> Tensor:
    return F.pad(weight, (0, -weight.shape[1] % multiple, 0, -weight.shape[0] % PANEL))


def _codes(groups: Tensor, scales: Tensor, precision: Precision) -> Tensor:
    zero = _ZERO[precision]
    codes = (groups / scales[..., None]).round_().clamp_(-zero, zero - 1)
    return codes.nan_to_num_(nan=0.0)  # a group of zeros has the scale 0


def _errors(groups: Tensor, scales: Tensor, precision: Precision) -> Tensor:
    """Squared, of each group; added in the order of the kernels: sixteen lanes, then their halves."""
    off = groups - scales[..., None] * _codes(groups, scales, precision)
    sums = torch.unflatten(off.square(), -1, (-1, 16)).unbind(dim=-2)
    lanes = functools.reduce(torch.add, sums)
    while lanes.shape[-1] > 1:
        lanes = torch.add(*lanes.chunk(2, dim=-1))
    return lanes[..., 0]


def _unrounded(codes: Tensor, scales: Tensor, precision: Precision) -> Tensor:
    if precision == "int4":
        halves = torch.unflatten(codes, 1, (-1, 4))
        codes = torch.stack([halves & 15, halves >> 4], dim=2).flatten(1)
    centred = codes.float() - _ZERO[precision]
    return (torch.unflatten(centred, 1, (scales.shape[1], -1)) * scales.float()[..., None]).flatten(1)


def _panels(flat: Tensor) -> Tensor:
    """(outputs, numbers) -> (panels, steps, 32, numbers a step): four bytes a step, moved as one."""
    words = torch.unflatten(flat.contiguous().view(torch.int32), 0, (-1, PANEL))
    return words.transpose(1, 2).contiguous()[..., None].view(flat.dtype)


def _flat(panels: Tensor) -> Tensor:
    """`_panels` undone."""
    words = panels.view(torch.int32)[..., 0]
    rows = words.transpose(1, 2).flatten(0, 1)
    return rows.clone(memory_format=torch.contiguous_format).view(panels.dtype)
