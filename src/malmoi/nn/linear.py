"""The one projection seam: every matrix of every model is a `Linear`.

Bricks call it and never know what it is; quantisation, adapters and tensor parallelism are functions
model -> model that put another module in its place. A brick with several of the same x is a `SharedInput`: whether
they are one product, it does not know either. Read next: `norm`, `mlp`, `attention`, which call these.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

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


class Joined(ABC):
    """Several projections as one: called, it gives what each of `parts` makes of x, side by side.

    Attributes:
        parts: the projections, which are there to be called alone, and give the same bits.
        sizes: how many outputs each of them has.
    """

    parts: Sequence[nn.Module]
    sizes: Sequence[int]

    @abstractmethod
    def __call__(self, x: Float[Tensor, "*batch I"]) -> Float[Tensor, "*batch O"]: ...

    @abstractmethod
    def again(self) -> "Joined | None":
        """The same after its parts have moved; None if they cannot be joined any more."""


class SharedInput(nn.Module):
    """A brick with `projections`, children by name, that read the same x.

    Attributes:
        joined: all of them in one, for inference (`packed.join` sets it). A part that somebody put another module in
            the place of, an adapter for one, is called on its own, and so are the others.
    """

    projections: ClassVar[Sequence[str]]
    joined: Joined | None = None

    def project(self, x: Float[Tensor, "B T D"], head_dim: int | None = None) -> Sequence[Tensor]:
        """What each of them makes of x, cut into heads if it is said how wide those are."""
        parts = [self._modules[name] for name in self.projections]
        joined = self.joined
        if joined is None or joined.parts != parts or torch.is_grad_enabled():
            outs = [part(x) for part in parts if part is not None]
            return outs if head_dim is None else [torch.unflatten(out, -1, (-1, head_dim)) for out in outs]
        if head_dim is None:
            return joined(x).split_with_sizes(joined.sizes, -1)
        heads = torch.unflatten(joined(x), -1, (-1, head_dim))
        return heads.split_with_sizes([size // head_dim for size in joined.sizes], -2)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SharedInput":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.joined is not None:
            self.joined = self.joined.again()
        return self
