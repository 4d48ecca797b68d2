"""Residual sublayers, and the block that runs them in order.

A sublayer is a module `(x, context) -> x`: it owns its norm and its residual sum, so that a block is a list and
knows neither. Read next: `stack`, which runs the blocks; `models/llama.py`, which fills them.
"""

from jaxtyping import Float
from torch import Tensor, nn

from malmoi.nn.context import Context


class PreNorm(nn.Module):
    """`x + mixer(norm(x))`: the residual stream itself is never normalised.

    Xiong et al. 2020, arXiv:2002.04745, section 3. The mixer is called as `mixer(x, context)`.
    """

    def __init__(self, norm: nn.Module, mixer: nn.Module) -> None:
        super().__init__()
        self.norm, self.mixer = norm, mixer

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        out: Tensor = x + self.mixer(self.norm(x), context)
        return out


class Block(nn.Module):
    """Named residual sublayers, run in the order in which they are given. The names become parameter names.

    The usual two: `Block(attention=PreNorm(norm, attention), ffn=PreNorm(norm, mlp))`.
    """

    def __init__(self, **sublayers: nn.Module) -> None:
        super().__init__()
        for name, sublayer in sublayers.items():
            self.add_module(name, sublayer)

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        for sublayer in self.children():
            x = sublayer(x, context)
        return x
