"""Feed-forward sublayers: what a block does to each position on its own.

Two shapes, one with a gate; the activation is a function that the family passes in. Both take the context
that every sublayer gets, and do not read it. Read next: `block`, where they stand beside attention.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from malmoi.nn.context import Context
from malmoi.nn.kernels.rowwise import Sigmoid, gated
from malmoi.nn.linear import Linear, SharedInput

Activation = Callable[[Tensor], Tensor]


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its tanh approximation, as in GPT-2 (Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2).

    >>> gelu_tanh(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1588,  0.0000,  0.8412])
    """
    return F.gelu(x, approximate="tanh")


def quick_gelu(x: Tensor) -> Tensor:
    """`x * sigmoid(1.702 x)`, GELU's other approximation (arXiv:1606.08415, section 2), as in CLIP.

    >>> quick_gelu(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.1542,  0.0000,  0.8458])
    """
    return x * torch.sigmoid(1.702 * x)


class MLP(nn.Module):
    """`down(activation(up(x)))`, the feed-forward network of 2017 (arXiv:1706.03762, section 3.3).

    >>> mlp = MLP(8, 32, activation=gelu_tanh, bias=True)
    >>> sum(parameter.numel() for parameter in mlp.parameters())   # 2 x 8 x 32, and 32 + 8 biases
    552
    """

    def __init__(
        self, hidden_size: int, intermediate_size: int, *, activation: Activation, bias: bool
    ) -> None:
        super().__init__()
        self.activation = activation
        self.up = Linear(hidden_size, intermediate_size, bias=bias)
        self.down = Linear(intermediate_size, hidden_size, bias=bias)

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        out: Tensor = self.down(self.activation(self.up(x)))
        return out


_GELU = 2 * math.sqrt(2 / math.pi)
SIGMOIDS = {F.silu: Sigmoid(1.0), gelu_tanh: Sigmoid(_GELU, 0.044715 * _GELU), quick_gelu: Sigmoid(1.702)}
"""Activations whose gate has a kernel: tanh(y) is 2 sigmoid(2 y) - 1."""


class GatedMLP(SharedInput):
    """`down(activation(gate(x)) * up(x))`; with SiLU this is SwiGLU (Shazeer 2020, arXiv:2002.05202, section 2).

    >>> mlp = GatedMLP(8, 32)
    >>> sum(parameter.numel() for parameter in mlp.parameters())   # 3 x 8 x 32
    768
    """

    projections = ("gate", "up")

    def __init__(
        self, hidden_size: int, intermediate_size: int, *, activation: Activation = F.silu, bias: bool = False
    ) -> None:
        super().__init__()
        self.activation = activation
        self.gate = Linear(hidden_size, intermediate_size, bias=bias)
        self.up = Linear(hidden_size, intermediate_size, bias=bias)
        self.down = Linear(intermediate_size, hidden_size, bias=bias)

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        gate, up = self.project(x)
        out: Tensor = self.down(gated(gate, up, self.activation, SIGMOIDS.get(self.activation)))
        return out
