"""Weights of 8 or 4 bits: `quantize(model, "int8")`, in seconds, in place.

A group of inputs shares a scale, so 8.5 or 4.5 bits a weight with groups of 32. What that costs is measured in
`docs/lab-log.md`, section 20. The formats and their rounding are in `kernels/packing.py`. Place in the flow: after a
model is loaded, or in `load_model(..., dtype="int4")`; `save_model` writes what is packed, which loads bit for bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from malmoi.core.errors import ConfigError
from malmoi.nn.kernels.look_up import look_up
from malmoi.nn.kernels.packed_product import rounded_product
from malmoi.nn.kernels.packing import Precision, Rounded, round_to, unround
from malmoi.nn.packed import Packable, PackedWeight, join, packable

M = TypeVar("M", bound=nn.Module)
PRECISIONS = ("int8", "int4")


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How a model is rounded: matrices of blocks and tables of tokens to `precision`, heads to `head`.

    A head of "auto" is rounded as the blocks are, but to int8 if it is tied to a table, which it then is for both.
    Without `rounds_tables` a table that is tied to nothing stays as it is.

    Raises ConfigError for a precision that is not known and a group that no kernel reads.

    >>> Quantization(precision="int4").bits_a_weight
    4.5
    """

    precision: str
    group_size: int = 32
    head: str = "auto"
    rounds_tables: bool = True

    def __post_init__(self) -> None:
        for name, known in (("precision", PRECISIONS), ("head", ("auto", *PRECISIONS))):
            if getattr(self, name) not in known:
                raise ConfigError(
                    f"{name}={getattr(self, name)!r} is no precision of packed weights. Use {' or '.join(known)}."
                )
        if self.group_size not in (32, 64, 128):
            raise ConfigError(
                f"group_size={self.group_size}: a scale is shared by 32, 64 or 128 inputs. Use one of these."
            )

    @property
    def bits_a_weight(self) -> float:
        """Of the blocks, scales included."""
        return int(self.precision.removeprefix("int")) + 16 / self.group_size

    def matrices_of(self, model: nn.Module) -> list[Packable]:
        """What of a model is rounded."""
        return packable(model, with_tables=self.rounds_tables)

    def precision_of(self, matrix: Packable) -> Precision:
        """What one matrix of a model is rounded to."""
        head = self.head
        if head == "auto":
            head = "int8" if matrix.is_tied else self.precision
        # `__post_init__` saw to it that these are all there are.
        return cast(Precision, head if matrix.is_head or matrix.is_tied else self.precision)

    def bytes_of(self, matrix: Packable) -> int:
        """What it takes then, with its scales."""
        rounded = _empty(matrix.weight, self.precision_of(matrix), self.group_size)
        return rounded.codes.nbytes + rounded.scales.nbytes


class QuantizedWeight(PackedWeight):
    """A matrix of codes and scales. `rows` and `plain` give what the codes stand for, in `dtype`.

    That one follows the model to another precision; codes and scales do not.
    """

    codes: Tensor
    scales: Tensor

    def __init__(
        self, rounded: Rounded, out_size: int, in_size: int, *, quantization: Quantization, dtype: torch.dtype
    ) -> None:
        super().__init__(out_size, in_size)
        self.precision, self.quantization, self.dtype = rounded.precision, quantization, dtype
        self.register_buffer("codes", rounded.codes)
        self.register_buffer("scales", rounded.scales)

    def product(
        self, x: Float[Tensor, "*batch I"], bias: Float[Tensor, " O"] | None
    ) -> Float[Tensor, "*batch O"]:
        return rounded_product(x, self.rounded, bias, out_size=self.out_size)

    def rows(self, ids: Int[Tensor, " n"]) -> Float[Tensor, "n I"]:
        return look_up(self.rounded, ids, out_size=self.out_size, in_size=self.in_size, dtype=self.dtype)

    def plain(self) -> Float[Tensor, "O I"]:
        return unround(self.rounded, out_size=self.out_size, in_size=self.in_size).to(self.dtype)

    @property
    def rounded(self) -> Rounded:
        return Rounded(self.codes, self.scales, self.precision)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "QuantizedWeight":
        self.dtype = fn(torch.empty(0, dtype=self.dtype)).dtype
        super()._apply(fn, recurse)
        return self


@torch.no_grad()
def quantize(
    model: M,
    precision: str,
    *,
    group_size: int = 32,
    head: str = "auto",
    rounds_tables: bool = True,
    release: Callable[[Tensor], None] = lambda weight: None,
) -> M:
    """Round the matrices of the blocks, the table of tokens and the head (mutates and returns `model`).

    A matrix at a time, so beside the model there is never more than one. `Quantization` says to what. A table is read
    row by row; that of a tied head is the head's weight, rounded once. What stays as it is: tables of positions,
    routers of experts, recurrent layers, norms, biases, what else stands before and after the blocks. `release` gets
    each plain weight once nobody needs it. On the meta device the shapes alone are changed, for a file to fill.

    Raises ConfigError for an unknown precision or group, a weight that is not finite, and a model that is packed.

    >>> from malmoi.models import llama
    >>> model = quantize(llama.build(llama.sized(2, vocab_size=256, max_positions=64)), "int4")
    >>> model(torch.tensor([[5, 6, 7]])).logits.shape
    torch.Size([1, 3, 256])
    """
    quantization = Quantization(
        precision=precision, group_size=group_size, head=head, rounds_tables=rounds_tables
    )
    if any(isinstance(module, PackedWeight) for module in model.modules()):
        raise ConfigError("this model's weights are packed already. Quantize it before it is packed.")
    matrices = quantization.matrices_of(model)
    while matrices:  # not `for`: the list would keep every plain weight to the end
        matrix = matrices.pop()
        weight = matrix.weight.detach()
        rounded = _rounded(weight, quantization.precision_of(matrix), group_size)
        matrix.put(QuantizedWeight(rounded, *weight.shape, quantization=quantization, dtype=weight.dtype))
        release(weight)
    return join(model)


def quantization_of(model: nn.Module) -> Quantization | None:
    """How a model was rounded; None if it was not."""
    found = (module.quantization for module in model.modules() if isinstance(module, QuantizedWeight))
    return next(found, None)


def _empty(weight: Tensor, precision: Precision, group_size: int) -> Rounded:
    """The shapes alone, without memory."""
    return Rounded.empty(weight.shape[0], weight.shape[1], precision, group_size, torch.device("meta"))


def _rounded(weight: Tensor, precision: Precision, group_size: int) -> Rounded:
    if weight.is_meta:
        return _empty(weight, precision, group_size)
    rounded = round_to(precision, weight, group_size)
    if not rounded.scales.isfinite().all():
        raise ConfigError(
            f"a weight of {list(weight.shape)} has numbers that are not finite and cannot be rounded. The checkpoint "
            "is damaged, or training went wrong."
        )
    return rounded
