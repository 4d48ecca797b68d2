"""What stands between the products, in one pass each: RMSNorm and a rotation; the kernels in C++ and their twins.

PyTorch runs each of them as several operators. With one token a step their overhead is what counts: `docs/lab-log.md`,
section 11, has how much. Place in the flow: `norm.py` and `rope.py` call these. Read next: `csrc/rowwise.h`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from malmoi.nn.kernels.native import kernels_for


def rms_norm(
    x: Float[Tensor, "*batch D"], weight: Float[Tensor, " D"], eps: float
) -> Float[Tensor, "*batch D"]:
    """`x / rms(x) * weight`: normalised in fp32 and rounded to the precision of x before the weight multiplies it."""
    kernels = kernels_for(x, weight)
    if kernels is None:
        return rms_norm_reference(x, weight, eps)
    x = x.contiguous()
    out, size = torch.empty_like(x), x.shape[-1]
    kernels.rms_norm(
        x.dtype is torch.bfloat16,
        x.numel() // size,
        size,
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
    wide = x.float()
    normed = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + eps)
    return weight.to(x.dtype) * normed.to(x.dtype)


def rotate_halves(
    x: Float[Tensor, "B T N H"], cos: Float[Tensor, "B T 1 half"], sin: Float[Tensor, "B T 1 half"]
) -> Float[Tensor, "B T N H"]:
    """Turn each pair (x[i], x[i + H/2]) by its token's angle, in fp32 and rounded once; the twin rounds on the way."""
    kernels = kernels_for(x)
    is_plain = cos.dtype is sin.dtype is torch.float32 and cos.shape[:2] == x.shape[:2]
    if kernels is None or not is_plain:
        return rotate_halves_reference(x, cos, sin)
    x, cos, sin = x.contiguous(), cos.contiguous(), sin.contiguous()
    out = torch.empty_like(x)
    kernels.rotate(
        x.dtype is torch.bfloat16,
        x.shape[0] * x.shape[1],
        x.shape[2],
        x.shape[3],
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
