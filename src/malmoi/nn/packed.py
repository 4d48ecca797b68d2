"""Weights as the machine reads them fastest, `prepack(model)`, and the two modules that any packed weight lives in.

A `PackedWeight` says what it is times x, some of its rows, and itself as a plain matrix; `PackedLinear` and
`PackedEmbedding` are the modules that stand where a `Linear` and a table stood, and share one weight where those were
tied. Those of one x, such as q, k and v, lie end to end and are one product (`join`), under the names that they had.
Place in the flow: after a model is loaded, before it runs. Read next: `quantized.py`, the same with fewer bits.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from malmoi.nn.embedding import Embedding
from malmoi.nn.kernels.look_up import look_up
from malmoi.nn.kernels.native import TWINS, in_large_pages, level
from malmoi.nn.kernels.packed_product import packed_product
from malmoi.nn.kernels.packing import PANEL, pack, unpack
from malmoi.nn.kernels.plain_product import plain_product
from malmoi.nn.linear import Joined, Linear, SharedInput
from malmoi.nn.mla import Expansion
from malmoi.nn.moe import Router
from malmoi.nn.recurrent import Recurrent
from malmoi.nn.stack import Decoder, Stack

M = TypeVar("M", bound=nn.Module)


class PackedWeight(nn.Module, ABC):
    """A matrix (out_size, in_size) in another form, its buffers by panels of 32 outputs first.

    It follows a model to another device, not to another precision.
    """

    def __init__(self, out_size: int, in_size: int) -> None:
        super().__init__()
        self.out_size, self.in_size = out_size, in_size

    @abstractmethod
    def product(
        self, x: Float[Tensor, "*batch I"], bias: Float[Tensor, " O"] | None
    ) -> Float[Tensor, "*batch O"]:
        """`x W^T + bias` in the precision of x."""

    @abstractmethod
    def rows(self, ids: Int[Tensor, " n"]) -> Float[Tensor, "n I"]:
        """The rows `ids`, in the precision that the weight had. Raises IndexError for one that it has not."""

    @abstractmethod
    def plain(self) -> Float[Tensor, "O I"]:
        """The whole matrix, in the precision that the weight had."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PackedWeight":
        for name, buffer in self.named_buffers():
            setattr(self, name, buffer.to(fn(buffer.new_empty(0)).device))
        return self


class PackedLinear(nn.Module):
    """`linear.Linear` with a packed weight. Not for training: the weight gets no gradient, x does."""

    def __init__(self, weight: PackedWeight, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.packed, self.bias = weight, bias
        self.in_features, self.out_features = weight.in_size, weight.out_size

    def forward(self, x: Float[Tensor, "*batch I"]) -> Float[Tensor, "*batch O"]:
        """Raises RuntimeError for x of another size, as PyTorch's does: the kernels do not look."""
        return self.product(x, self.bias)

    def product(
        self, x: Float[Tensor, "*batch I"], bias: Float[Tensor, " O"] | None
    ) -> Float[Tensor, "*batch O"]:
        """`forward` with another bias than its own."""
        if x.shape[-1] != self.in_features:
            raise RuntimeError(f"x has {x.shape[-1]} numbers a row, and the weight takes {self.in_features}")
        return self.packed.product(x, None if bias is None else bias.to(x.dtype))


class PackedEmbedding(nn.Module):
    """A table of vectors whose packed weight may be the head's, too."""

    def __init__(self, weight: PackedWeight) -> None:
        super().__init__()
        self.packed = weight
        self.num_embeddings, self.embedding_dim = weight.out_size, weight.in_size

    def forward(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch D"]:
        """Raises IndexError for an id that is not in the table, as PyTorch's does."""
        return torch.unflatten(self.packed.rows(ids.flatten()), 0, ids.shape)


# --- projections of one x ----------------------------------------------------------------------------------


class JoinedLinear(Joined):
    """Packed projections of one x whose panels lie end to end, so that they are one product.

    The weights of `parts` are views of the whole from then on (mutates them); biases stay where they are.
    """

    parts: list[PackedLinear]

    def __init__(self, parts: Sequence[PackedLinear]) -> None:
        self.parts, self.sizes = list(parts), [part.out_features for part in parts]
        self.has_bias = any(part.bias is not None for part in parts)
        self.whole = PackedLinear(_end_to_end([part.packed for part in parts]), None)

    def __call__(self, x: Float[Tensor, "*batch I"]) -> Float[Tensor, "*batch O"]:
        bias = None
        if self.has_bias:  # zero where a part has none
            each = [x.new_zeros(part.out_features) if part.bias is None else part.bias for part in self.parts]
            bias = torch.cat(each)
        return self.whole.product(x, bias)

    def again(self) -> Joined | None:
        return joined(self.parts)


def joined(parts: Sequence[nn.Module | None]) -> JoinedLinear | None:
    """Projections as one, if they can be: packed alike, of inputs alike, and in whole panels all but the last."""
    packed = [part for part in parts if isinstance(part, PackedLinear)]
    if len(packed) < len(parts) or len({_form(part.packed) for part in packed}) > 1:
        return None
    if any(part.out_features % PANEL for part in packed[:-1]):
        return None
    return JoinedLinear(packed)


def join(model: M, *, release: Callable[[Tensor], None] = lambda buffer: None) -> M:
    """Let each brick of a packed model make all of its projections of one x at once (mutates and returns `model`).

    The same numbers, from one pass of the threads instead of several. Names and shapes stay, for saving. What was
    copied, `release` gets; there is never more than one brick's twice.
    """
    for owner in model.modules():
        if isinstance(owner, SharedInput):
            parts = [owner.get_submodule(name) for name in owner.projections]
            before = [buffer for part in parts for buffer in part.buffers()]
            owner.joined = joined(parts)
            if owner.joined is not None:
                for buffer in before:
                    release(buffer)
    return model


def _form(weight: PackedWeight) -> tuple[object, ...]:
    """What two weights that lie end to end have in common."""
    buffers = [
        (name, buffer.shape[1:], buffer.dtype, buffer.device) for name, buffer in weight.named_buffers()
    ]
    return type(weight), weight.in_size, *buffers


def _end_to_end(parts: Sequence[PackedWeight]) -> PackedWeight:
    whole = copy.copy(parts[0])
    whole._buffers = {}  # a copy shares them with its original
    whole.out_size = sum(part.out_size for part in parts)
    for name, _ in parts[0].named_buffers():
        each = [part.get_buffer(name) for part in parts]
        shape = (sum(len(buffer) for buffer in each), *each[0].shape[1:])
        whole.register_buffer(name, torch.cat(each, out=in_large_pages(each[0].new_empty(shape))))
        views = torch.split(whole.get_buffer(name), [len(buffer) for buffer in each])
        for part, view in zip(parts, views, strict=True):
            setattr(part, name, view)
    return whole


# --- bf16 --------------------------------------------------------------------------------------------------


class PanelWeight(PackedWeight):
    """A bf16 matrix in panels (`kernels/packing.py`), for the kernels of this package.

    >>> matrix = torch.randn(5, 4).bfloat16()
    >>> torch.equal(PanelWeight(matrix).plain(), matrix)
    True
    """

    def __init__(self, weight: Float[Tensor, "O I"]) -> None:
        super().__init__(*weight.shape)
        self.register_buffer("panels", pack(weight))

    panels: Tensor

    def product(
        self, x: Float[Tensor, "*batch I"], bias: Float[Tensor, " O"] | None
    ) -> Float[Tensor, "*batch O"]:
        return packed_product(x, self.panels, bias, out_size=self.out_size)

    def rows(self, ids: Int[Tensor, " n"]) -> Float[Tensor, "n I"]:
        size = {"out_size": self.out_size, "in_size": self.in_size}
        return look_up(self.panels, ids, **size, dtype=self.panels.dtype)

    def plain(self) -> Float[Tensor, "O I"]:
        return unpack(self.panels, self.out_size, self.in_size)


class RowWeight(PackedWeight):
    """A bf16 matrix as it is, for a GPU, which reads rows as fast as anything: packed only so as to be joined.

    >>> matrix = torch.randn(5, 4).bfloat16()
    >>> torch.equal(RowWeight(matrix).rows(torch.tensor([3])), matrix[3:4])
    True
    """

    def __init__(self, weight: Float[Tensor, "O I"]) -> None:
        super().__init__(*weight.shape)
        self.register_buffer("matrix", weight)

    matrix: Tensor

    def product(
        self, x: Float[Tensor, "*batch I"], bias: Float[Tensor, " O"] | None
    ) -> Float[Tensor, "*batch O"]:
        return plain_product(x, self.matrix, bias)

    def rows(self, ids: Int[Tensor, " n"]) -> Float[Tensor, "n I"]:
        return F.embedding(ids, self.matrix)

    def plain(self) -> Float[Tensor, "O I"]:
        return self.matrix


def prepack(model: M, *, release: Callable[[Tensor], None] = lambda weight: None) -> M:
    """Put the bf16 matrices of blocks and head into the form that is read fastest (mutates and returns `model`).

    For inference where the model is, on this processor or on a GPU: the same numbers, read in the order in which they
    are multiplied. The table of a tied head becomes the head's packed weight, so nothing is kept twice. What stays as
    it is: matrices in another precision, routers of experts, recurrent layers, what stands before and after the blocks;
    and all of it on a processor where `is_worth_packing()` is False. `save_model` writes the plain weights. `release`
    gets each plain weight once nobody needs it.
    """
    matrices = packable(model)
    while matrices:  # not `for`: the list would keep every plain weight to the end
        matrix = matrices.pop()
        form = _form_for(matrix.weight)
        if form is not None:
            matrix.put(form(matrix.weight.detach()))
            release(matrix.weight.detach())
    return join(model)


def _form_for(weight: Tensor) -> type[PanelWeight] | type[RowWeight] | None:
    if weight.dtype is not torch.bfloat16:
        return None
    if weight.is_cuda:
        return RowWeight
    return PanelWeight if weight.is_cpu and is_worth_packing() else None


def is_worth_packing() -> bool:
    """Whether packed products are faster here: with kernels that use all that the processor has.

    Where it multiplies tiles (AMX) and they do not, PyTorch's own product is faster.
    """
    has_tiles = torch.cpu._is_amx_tile_supported() and torch.cpu._init_amx()  # the system may refuse them
    return level() == "avx512_amx" or (level() != TWINS and not has_tiles)


# --- model -> model ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Packable:
    """A matrix that may be packed, and the places that share it: each a module and the name of its child there."""

    weight: Tensor
    is_head: bool
    """Of a decoder."""
    places: list[tuple[nn.Module, str]] = field(default_factory=list)

    @property
    def is_tied(self) -> bool:
        """Whether it is a table and a projection at once."""
        is_table = {isinstance(getattr(owner, name), nn.Embedding) for owner, name in self.places}
        return len(is_table) > 1

    def put(self, packed: PackedWeight) -> None:
        """Let the places share a packed weight instead (mutates the modules that own them)."""
        for owner, name in self.places:
            before = getattr(owner, name)
            is_table = isinstance(before, nn.Embedding)
            setattr(owner, name, PackedEmbedding(packed) if is_table else PackedLinear(packed, before.bias))


def packable(model: nn.Module, *, with_tables: bool = False) -> list[Packable]:
    """The projections of all blocks, and the heads of decoders with the tables that are tied to them.

    `with_tables`: the other tables of tokens as well, with what is tied to them. Left out is a matrix whose owner reads
    it otherwise than by calling it, and a router's: near a tie it would send a token elsewhere.
    """
    found: dict[int, Packable] = {}
    for stack in model.modules():
        if isinstance(stack, Stack):
            for owner in stack.blocks.modules():
                if not isinstance(owner, Router | Recurrent):
                    _add_linears(owner, found, is_head=False)
        if isinstance(stack, Decoder):
            _add_linears(stack if isinstance(stack.head, Linear) else stack.head, found, is_head=True)
    if with_tables:
        for embedding in model.modules():
            if isinstance(embedding, Embedding):
                table = embedding.tokens.weight
                found.setdefault(id(table), Packable(table, is_head=False))
    for owner in model.modules():
        for name, child in owner.named_children():
            if isinstance(child, Linear | nn.Embedding) and id(child.weight) in found:
                found[id(child.weight)].places.append((owner, name))
    return list(found.values())


def plain_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters by name, a tied one under its first name only, as they were before anything was packed.

    Those that are not packed share the model's memory.

    >>> list(plain_tensors(nn.Linear(3, 2)))
    ['weight', 'bias']
    """
    tensors = {name: parameter.detach() for name, parameter in model.named_parameters()}
    for name, module in model.named_modules():
        if isinstance(module, PackedWeight):
            tensors[name.removesuffix("packed") + "weight"] = module.plain()
    return tensors


def _add_linears(owner: nn.Module, found: dict[int, Packable], *, is_head: bool) -> None:
    for child in owner.children():
        if isinstance(child, Linear) and not isinstance(child, Expansion):
            found.setdefault(id(child.weight), Packable(child.weight, is_head))
