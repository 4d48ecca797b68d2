"""Normalisation: LayerNorm, RMSNorm and its offset form, computed in fp32 whatever the precision of input and weights.

What they make has the narrower of both precisions: a residual stream in fp32 reaches the products as the weights are.
Place in the flow: inside each residual sublayer (`block`), and once before the head (`stack`).
Read next: `kernels/rowwise.py`, `mlp`, `attention`.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from malmoi.nn.kernels.rowwise import narrower, rms_norm


class RMSNorm(nn.Module):
    """`x / rms(x) * weight` (Zhang & Sennrich 2019, arXiv:1910.07467, section 3).

    As in Llama, `x` is normalised in fp32 and rounded back before the weight multiplies it.

    >>> RMSNorm(2, eps=0.0)(torch.tensor([[3.0, 4.0]]))   # rms = sqrt((9 + 16) / 2) = 3.5355
    tensor([[0.8485, 1.1314]], grad_fn=<MulBackward0>)
    """

    def __init__(self, size: int, *, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        return rms_norm(x, self.weight, self.eps)


class OffsetRMSNorm(nn.Module):
    """`x / rms(x) * (1 + weight)`: the weight is learned around one, so weight decay draws the norm to identity.

    As in Gemma (arXiv:2403.08295), all of it is computed in fp32 and rounded once, where `RMSNorm` rounds twice.

    >>> OffsetRMSNorm(2, eps=0.0)(torch.tensor([[3.0, 4.0]]))
    tensor([[0.8485, 1.1314]], grad_fn=<MulBackward0>)
    """

    def __init__(self, size: int, *, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(size))

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        wide = x.float()
        normed = wide * torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.eps)
        return (normed * (1.0 + self.weight.float())).to(narrower(x, self.weight))


class LayerNorm(nn.LayerNorm):
    """`(x - mean(x)) / std(x) * weight + bias` (Ba et al. 2016, arXiv:1607.06450, section 3).

    >>> LayerNorm(2, eps=0.0)(torch.tensor([[3.0, 5.0]]))   # mean 4, std 1
    tensor([[-1.,  1.]], grad_fn=<NativeLayerNormBackward0>)
    """

    def forward(self, x: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch D"]:
        normed = F.layer_norm(
            x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps
        )
        return normed.to(narrower(x, self.weight))


NARROWING = (RMSNorm, OffsetRMSNorm, LayerNorm)
"""Norms that make the narrower of the precisions of input and weights, as PyTorch's own do not."""
