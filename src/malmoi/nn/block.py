"""Residual sublayers, and the block that runs them in order.

A sublayer is a module `(x, context) -> x`: it owns its norm and its residual sum, so that a block is a list and
knows neither. Where the norm stands is what tells them apart:

    PreNorm    x + mixer(norm(x))              GPT-2, Llama
    PostNorm   norm(x + mixer(x))              the Transformer of 2017, BERT, BART
    Reordered  x + norm(mixer(x))              OLMo 2, EXAONE 4
    Sandwich   x + post(mixer(pre(x)))         Gemma 2 and 3

Read next: `stack`, which runs the blocks; `models/llama.py`, which fills them.

With a norm to 1, a mixer that doubles, and 3 in the stream:

>>> class Double(nn.Module):
...     def forward(self, x, context):
...         return 2 * x
>>> x, context = torch.full((1, 1, 1), 3.0), Context.rows(1, 1, specs=[])
>>> norm, mixer = nn.RMSNorm(1, elementwise_affine=False), Double()
>>> sublayers = [PreNorm(norm, mixer), PostNorm(mixer, norm), Reordered(mixer, norm), Sandwich(norm, mixer, norm)]
>>> [sublayer(x, context).item() for sublayer in sublayers]       # 3 + 2 x 1, 9 -> 1, 3 + 1, 3 + 1
[5.0, 1.0, 4.0, 4.0]
"""

from jaxtyping import Float
from torch import Tensor, nn

from malmoi.nn.context import Context
from malmoi.nn.kernels.rowwise import add


class Residual(nn.Module):
    """What adds to the residual stream: a mixer, called as `mixer(x, context)`, and norms around it."""

    mixer: nn.Module

    @property
    def reading_norm(self) -> nn.Module | None:
        """The norm through which alone it reads the stream, if it does."""
        return None


class PreNorm(Residual):
    """`x + mixer(norm(x))`: the residual stream itself is never normalised.

    Xiong et al. 2020, arXiv:2002.04745, section 3.
    """

    def __init__(self, norm: nn.Module, mixer: nn.Module) -> None:
        super().__init__()
        self.norm, self.mixer = norm, mixer

    @property
    def reading_norm(self) -> nn.Module:
        return self.norm

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        return add(x, self.mixer(self.norm(x), context))


class PostNorm(Residual):
    """`norm(x + mixer(x))`: every sublayer hands on a normalised stream (arXiv:1706.03762, section 3.1)."""

    def __init__(self, mixer: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.mixer, self.norm = mixer, norm

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        out: Tensor = self.norm(add(x, self.mixer(x, context)))
        return out


class Reordered(Residual):
    """`x + norm(mixer(x))`: the stream stays as it is, what is added to it is normalised.

    The reordered norm of OLMo 2 (arXiv:2501.00656).
    """

    def __init__(self, mixer: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.mixer, self.norm = mixer, norm

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        return add(x, self.norm(self.mixer(x, context)))


class Sandwich(Residual):
    """`x + post(mixer(pre(x)))`: what is added is normalised too (Gemma 2, arXiv:2408.00118, section 2)."""

    def __init__(self, pre_norm: nn.Module, mixer: nn.Module, post_norm: nn.Module) -> None:
        super().__init__()
        self.pre_norm, self.mixer, self.post_norm = pre_norm, mixer, post_norm

    @property
    def reading_norm(self) -> nn.Module:
        return self.pre_norm

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        return add(x, self.post_norm(self.mixer(self.pre_norm(x), context)))


class Block(nn.Module):
    """Named residual sublayers, run in the order in which they are given. The names become parameter names.

    The usual two are attention and a feed-forward network:

    >>> from malmoi.nn.mlp import GatedMLP
    >>> from malmoi.nn.norm import RMSNorm
    >>> block = Block(ffn=PreNorm(RMSNorm(4, eps=1e-5), GatedMLP(4, 8, bias=False)))
    >>> block(torch.ones(1, 3, 4), Context.rows(1, 3, specs=[])).shape, next(iter(block.state_dict()))
    (torch.Size([1, 3, 4]), 'ffn.norm.weight')
    """

    def __init__(self, **sublayers: nn.Module) -> None:
        super().__init__()
        for name, sublayer in sublayers.items():
            self.add_module(name, sublayer)

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        for sublayer in self.children():
            x = sublayer(x, context)
        return x
