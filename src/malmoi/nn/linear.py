"""The one projection seam: every matrix of every model is a `Linear`.

Bricks call it and never know what it is; quantisation, adapters and tensor parallelism are functions
model -> model that put another module in its place. Read next: `norm`, `mlp`, `attention`, which call it.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Linear(nn.Linear):
    """`y = x W^T + b`, computed in the precision of `x`.

    Weights may be kept in fp32 while activations flow in bf16: the weight is cast on the way in, and its
    gradient comes back in the weight's own precision. That is mixed precision without an autocast context.

    >>> Linear(4, 2, bias=False)(torch.ones(1, 3, 4, dtype=torch.bfloat16)).dtype
    torch.bfloat16
    """

    bias: nn.Parameter | None  # type: ignore[assignment]  # PyTorch's own annotation leaves out the None

    def reset_parameters(self) -> None:
        """PyTorch's, where there is memory: drawing nothing takes half of the time of building a large empty model."""
        if not self.weight.is_meta:
            super().reset_parameters()

    def forward(self, x: Float[Tensor, "*batch I"]) -> Float[Tensor, "*batch O"]:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.matrix(x.dtype), bias)

    def matrix(self, dtype: torch.dtype) -> Float[Tensor, "O I"]:
        """W itself, for a brick that multiplies by it from the other side (`mla`)."""
        return self.weight.to(dtype)
