"""What stands between the products, in one pass each: RMSNorm, a rotation, a gate, a sum, keys and values into a pool.

PyTorch runs each of them as several operators. With one token a step their overhead is what counts: `docs/lab-log.md`,
section 11, has how much. Here are the kernels, in C++ and for a GPU, and their twins. Tokens may lie apart in memory,
as the parts of a joined product do (`nn/packed.py`). Place in the flow: `norm`, `rope`, `mlp`, `block` and `cache` call
these. Read next: `csrc/rowwise.h`, `gpu/rowwise.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from malmoi.nn.kernels.native import kernels_for
from malmoi.nn.kernels.on_gpu import gpu_kernels_for


def rms_norm(
    x: Float[Tensor, "*batch D"], weight: Float[Tensor, " D"], eps: float
) -> Float[Tensor, "*batch D"]:
    """`x / rms(x) * weight`: normalised in fp32 and rounded before the weight multiplies it.

    In the precision that is `narrower`.
    """
    kernels, gpu_kernels = _kernels_for_stream(x, weight), gpu_kernels_for(x, weight)
    if kernels is None and gpu_kernels is None:
        return rms_norm_reference(x, weight, eps)
    size, num_axes = x.shape[-1], 2 if x.ndim == 4 else 1
    num_heads = x.shape[-2] if num_axes == 2 else 1
    x, stride = _tokens(x, num_axes)
    if kernels is None:
        of_gpu: Float[Tensor, "*batch D"] = gpu_kernels.rms_norm(
            x, weight, eps, num_axes=num_axes, stride=stride
        )
        return of_gpu
    out = torch.empty_like(x, dtype=weight.dtype, memory_format=torch.contiguous_format)
    kernels.rms_norm(
        x.dtype is torch.bfloat16,
        weight.dtype is torch.bfloat16,
        x.numel() // (num_heads * size),
        num_heads,
        size,
        stride,
        x.data_ptr(),
        weight.data_ptr(),
        eps,
        out.data_ptr(),
        torch.get_num_threads(),
    )
    return out


def rms_norm_reference(
    x: Float[Tensor, "*batch D"], weight: Float[Tensor, " D"], eps: float
) -> Float[Tensor, "*batch D"]:
    """The same, operator by operator."""
    wide, dtype = x.float(), narrower(x, weight)
    normed = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    return weight.to(dtype) * normed.to(dtype)


def narrower(x: Tensor, weight: Tensor) -> torch.dtype:
    """What a norm makes: of a wide residual stream the precision of the weights, under wide weights that of x.

    >>> narrower(torch.ones(2), torch.ones(2, dtype=torch.bfloat16))
    torch.bfloat16
    """
    return weight.dtype if weight.itemsize < x.itemsize else x.dtype


def rotate_halves(
    x: Float[Tensor, "B T N H"], cos: Float[Tensor, "B T 1 half"], sin: Float[Tensor, "B T 1 half"]
) -> Float[Tensor, "B T N H"]:
    """Turn each pair (x[i], x[i + H/2]) by its token's angle, in fp32 and rounded once; the twin rounds on the way."""
    kernels, gpu_kernels = kernels_for(x), gpu_kernels_for(x)
    has_place = cos.shape[:2] == x.shape[:2] and 2 * cos.shape[3] == x.shape[3]
    is_plain = cos.dtype is sin.dtype is torch.float32 and has_place
    if (kernels is None and gpu_kernels is None) or not is_plain:
        return rotate_halves_reference(x, cos, sin)
    batch, num_tokens, num_heads, head_dim = x.shape
    (x, stride), cos, sin = _tokens(x, 2), cos.contiguous(), sin.contiguous()
    if kernels is None:
        of_gpu: Float[Tensor, "B T N H"] = gpu_kernels.rotate_halves(x, cos, sin, stride=stride)
        return of_gpu
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    kernels.rotate(
        x.dtype is torch.bfloat16,
        batch * num_tokens,
        num_heads,
        head_dim,
        stride,
        x.data_ptr(),
        cos.data_ptr(),
        sin.data_ptr(),
        out.data_ptr(),
        torch.get_num_threads(),
    )
    return out


def rotate_halves_reference(
    x: Float[Tensor, "B T N H"], cos: Float[Tensor, "B T 1 half"], sin: Float[Tensor, "B T 1 half"]
) -> Float[Tensor, "B T N H"]:
    """The same, operator by operator."""
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Sigmoid(NamedTuple):
    """The activation `x * sigmoid(linear x + cubic x^3)`: SiLU, and both approximations of GELU."""

    linear: float
    cubic: float = 0.0


def gated(
    gate: Float[Tensor, "*batch F"],
    up: Float[Tensor, "*batch F"],
    activation: Callable[[Tensor], Tensor],
    sigmoid: Sigmoid | None,
) -> Float[Tensor, "*batch F"]:
    """`activation(gate) * up`, computed in fp32 and rounded once; the twin rounds the activation too.

    `sigmoid` is what the activation is in numbers, if it is of that form; the twin, `activation` itself, is for any.

    >>> gated(torch.tensor([0.0, 20.0]), torch.tensor([3.0, 3.0]), torch.nn.functional.silu, Sigmoid(1.0))
    tensor([ 0., 60.])
    """
    kernels, gpu_kernels = kernels_for(gate, up), gpu_kernels_for(gate, up)
    if sigmoid is None or (kernels is None and gpu_kernels is None):
        return activation(gate) * up
    size = gate.shape[-1]
    (gate, gate_stride), (up, up_stride) = _tokens(gate, 1), _tokens(up, 1)
    if kernels is None:
        strides = {"gate_stride": gate_stride, "up_stride": up_stride}
        of_gpu: Float[Tensor, "*batch F"] = gpu_kernels.gated(gate, up, *sigmoid, **strides)
        return of_gpu
    out = torch.empty_like(gate, memory_format=torch.contiguous_format)
    kernels.gated(
        gate.dtype is torch.bfloat16,
        gate.numel() // size,
        size,
        gate_stride,
        up_stride,
        gate.data_ptr(),
        up.data_ptr(),
        sigmoid.linear,
        sigmoid.cubic,
        out.data_ptr(),
        torch.get_num_threads(),
    )
    return out


def store(
    k_pool: Float[Tensor, "slots K H"],
    v_pool: Float[Tensor, "slots K Hv"],
    slots: Int[Tensor, " T"],
    k: Float[Tensor, "*batch T K H"],
    v: Float[Tensor, "*batch T K Hv"],
) -> None:
    """Put the keys and values of T tokens into slots of their pools (mutates those), in the precision of the pools.

    Raises IndexError for a slot that is not there (on the CPU).
    """
    kernels, gpu_kernels = kernels_for(k, v, k_pool, v_pool), gpu_kernels_for(k, v, k_pool, v_pool)
    num_tokens, num_slots = len(slots), len(k_pool)
    k_size, v_size = (pool.shape[1] * pool.shape[2] for pool in (k_pool, v_pool))
    is_whole = k_pool.is_contiguous() and v_pool.is_contiguous() and slots.is_contiguous()
    fits = k.numel() == num_tokens * k_size and v.numel() == num_tokens * v_size
    has_kernels = kernels is not None or gpu_kernels is not None
    if not (has_kernels and is_whole and fits and slots.dtype is torch.int64):
        for pool, new in ((k_pool, k), (v_pool, v)):
            pool.index_copy_(0, slots, new.flatten(0, -3).to(pool.dtype))
        return
    (k, k_stride), (v, v_stride), width = _tokens(k, 2), _tokens(v, 2), k.itemsize
    if kernels is None:
        gpu_kernels.store(k_pool, v_pool, slots, k, v, k_stride=k_stride, v_stride=v_stride)
        return
    is_stored = kernels.store(
        num_tokens,
        k_size * width,
        v_size * width,
        k_stride * width,
        v_stride * width,
        num_slots,
        slots.data_ptr(),
        k.data_ptr(),
        v.data_ptr(),
        k_pool.data_ptr(),
        v_pool.data_ptr(),
    )
    if not is_stored:
        raise IndexError(f"a slot is outside of 0 to {num_slots - 1}")


def add(x: Float[Tensor, "*batch D"], y: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
    """`x + y`, in the precision that is wider.

    PyTorch has it; but in a recorded step it would be the one operator among kernels.
    """
    kernels, gpu_kernels = _kernels_for_stream(x, y), gpu_kernels_for(x, y)
    has_kernels = kernels is not None or gpu_kernels is not None
    if not has_kernels or x.shape != y.shape or not (x.is_contiguous() and y.is_contiguous()):
        return x + y
    if kernels is None:
        of_gpu: Float[Tensor, "*batch D"] = gpu_kernels.add(x, y)
        return of_gpu
    out = torch.empty_like(x)
    kernels.add(
        x.dtype is torch.bfloat16,
        y.dtype is torch.bfloat16,
        x.numel(),
        x.data_ptr(),
        y.data_ptr(),
        out.data_ptr(),
        torch.get_num_threads(),
    )
    return out


def _kernels_for_stream(x: Tensor, other: Tensor) -> Any:
    """Those of a residual stream and what meets it: of one precision, or the stream in fp32."""
    if x.dtype is torch.float32:
        return kernels_for(x) and kernels_for(other)
    return kernels_for(x, other)


def _tokens(x: Tensor, num_axes: int) -> tuple[Tensor, int]:
    """x, and how far its tokens lie apart; a copy if one's numbers, those of the last axes, are not side by side."""
    sizes, strides = x.shape, x.stride()
    if not x.is_contiguous():
        last = x.ndim - num_axes
        is_whole = strides[-1] == 1 and (num_axes == 1 or sizes[-2] == 1 or strides[-2] == sizes[-1])
        if is_whole and all(
            sizes[axis] == 1 or strides[axis] == sizes[axis + 1] * strides[axis + 1]
            for axis in range(last - 1)
        ):
            return x, strides[last - 1]
    return x.contiguous(), sizes[-num_axes:].numel()
