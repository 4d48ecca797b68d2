"""Rows of packed weights as numbers again: the kernel in C++ and its twin.

A table of tokens that is packed, because it is the head's weight too or to take less memory, is read so. Place in the
flow: `nn/packed.py` and `nn/quantized.py` call this. Read next: `csrc/rounding.h`.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from malmoi.nn.kernels.native import kernels_for
from malmoi.nn.kernels.packed_product import group_size_of
from malmoi.nn.kernels.packing import FORMAT, Rounded, rows_of, unround_rows


def look_up(
    weight: Tensor | Rounded, ids: Int[Tensor, " n"], *, out_size: int, in_size: int, dtype: torch.dtype
) -> Float[Tensor, "n I"]:
    """The rows `ids` of panels or of codes. Raises IndexError for an id that is not there, if it is on the CPU.

    >>> from malmoi.nn.kernels.packing import round_to
    >>> rounded = round_to("int8", torch.tensor([[1.0, 0.5], [0.0, -2.0]]), group_size=32)
    >>> look_up(rounded, torch.tensor([1]), out_size=2, in_size=2, dtype=torch.float32)
    tensor([[ 0., -2.]])
    """
    of_scales = weight.scales if isinstance(weight, Rounded) else weight
    kernels = kernels_for(of_scales) if dtype in (torch.bfloat16, torch.float32) else None
    if kernels is None or not ids.is_cpu or ids.dtype is not torch.int64:
        return look_up_reference(weight, ids, out_size=out_size, in_size=in_size, dtype=dtype)
    if isinstance(weight, Rounded):
        group_size = group_size_of(weight)
        form = FORMAT[weight.precision], weight.scales.shape[1] * group_size, group_size
        codes, scales = weight.codes.data_ptr(), weight.scales.data_ptr()
    else:
        form, codes, scales = (FORMAT["bf16"], 2 * weight.shape[1], 0), weight.data_ptr(), 0
    code, depth, group = form
    out = torch.empty(len(ids), in_size, dtype=dtype)
    is_there = kernels.look_up(
        code,
        dtype is torch.bfloat16,
        len(ids),
        in_size,
        out_size,
        depth,
        group,
        ids.contiguous().data_ptr(),
        codes,
        scales,
        out.data_ptr(),
        torch.get_num_threads(),
    )
    if not is_there:
        raise _not_there(out_size)
    return out


def look_up_reference(
    weight: Tensor | Rounded, ids: Int[Tensor, " n"], *, out_size: int, in_size: int, dtype: torch.dtype
) -> Float[Tensor, "n I"]:
    """The same, operator by operator."""
    if ids.is_cpu and ids.numel():
        lowest, highest = torch.aminmax(ids)
        if int(lowest) < 0 or int(highest) >= out_size:
            raise _not_there(out_size)
    if isinstance(weight, Rounded):
        return unround_rows(weight, ids, in_size=in_size).to(dtype)
    return rows_of(weight, ids).flatten(1)[:, :in_size].to(dtype)


def _not_there(out_size: int) -> IndexError:
    return IndexError(f"an id is outside of 0 to {out_size - 1}")
