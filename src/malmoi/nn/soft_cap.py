"""A soft cap: numbers of any size bent smoothly into (-cap, cap). The last step of a head that has one (Gemma 2).

The same curve bends attention scores inside the kernels (`attend.AttentionRule.soft_cap`). Read next: `norm`.
"""

from jaxtyping import Float
from torch import Tensor, nn


class SoftCap(nn.Module):
    """`cap * tanh(x / cap)`: almost x where x is small, never beyond the cap (arXiv:2408.00118, section 2).

    >>> SoftCap(30.0)(torch.tensor([1.0, 1000.0]))
    tensor([ 0.9996, 30.0000])
    """

    def __init__(self, cap: float) -> None:
        super().__init__()
        self.cap = cap

    def forward(self, x: Float[Tensor, "*batch V"]) -> Float[Tensor, "*batch V"]:
        return self.cap * (x / self.cap).tanh()

    def extra_repr(self) -> str:
        return str(self.cap)
