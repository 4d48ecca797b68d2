"""From the width of a tower to that of a decoder.

Place in the flow: tower -> projector -> `splice`. Read next: `multimodal`.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from malmoi.nn.linear import Linear
from malmoi.nn.mlp import Activation


class Projector(nn.Module):
    """Two layers with a GELU between them (LLaVA-1.5: Liu et al. 2023, arXiv:2310.03744, section 3.3).

    >>> Projector(16, 24)(torch.ones(2, 4, 16)).shape
    torch.Size([2, 4, 24])
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, activation: Activation = F.gelu, bias: bool = True
    ) -> None:
        super().__init__()
        self.activation = activation
        self.up = Linear(input_size, hidden_size, bias=bias)
        self.down = Linear(hidden_size, hidden_size, bias=bias)

    def forward(self, x: Float[Tensor, "B P I"]) -> Float[Tensor, "B P D"]:
        out: Tensor = self.down(self.activation(self.up(x)))
        return out
