"""What is built alike is rehearsed once: the equal layers of a stack, the equal experts of a layer.

DeepSeek-V3 is 61 layers, and 14,848 experts in them, but there are two kinds of layer and one of expert. Of each kind
one runs, and what it cost is added for its like. Nothing is estimated: the law is that memory and operations are those
of the whole rehearsal, to the byte. Read next: `rehearsal.py`, which counts.
"""

import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn

from malmoi.budget.rehearsal import Rehearsal
from malmoi.nn.context import Context

Forward = Callable[[Tensor, Context], Tensor]
SAYS_NOTHING = {*vars(nn.Module()), "cache_index", "forward"}
"""Attributes by which modules of one kind may differ: a layer's number, and what PyTorch or a rehearsal puts there."""


@contextmanager
def rehearsal_of(model: nn.Module) -> Iterator[Rehearsal]:
    """A `Rehearsal` of what `model`, on the meta device, does without gradients; equal parts of it run once.

    While it lasts, the members of a `ModuleList` have another `forward` (mutates the model, and takes it back).

    >>> from malmoi.budget import on_paper
    >>> from malmoi.models import llama
    >>> model = on_paper(llama.sized(8, vocab_size=256, max_positions=64))
    >>> with rehearsal_of(model) as rehearsal:
    ...     shape = model(torch.tensor([[5, 6, 7]])).logits.shape
    >>> with torch.no_grad(), Rehearsal() as whole:
    ...     logits = model(torch.tensor([[5, 6, 7]])).logits
    >>> rehearsal.flops == whole.flops, rehearsal.peak_bytes == whole.peak_bytes
    (True, True)
    """
    kinds = kinds_of(model)
    parts = {part for module in kinds if isinstance(module, nn.ModuleList) for part in module}
    with torch.no_grad(), Rehearsal() as rehearsal:
        repeats = Repeats(rehearsal)
        for part in parts:
            part.forward = partial(repeats.run, kinds[part], part.forward)
        try:
            yield rehearsal
        finally:
            for part in parts:
                del part.forward


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a part did: operations, how far memory rose above what it was, and what the part left behind."""

    flops: int
    rise: int
    left: tuple[tuple[torch.Size, tuple[int, ...], torch.dtype], ...]


class Repeats:
    """Runs parts of a model within `rehearsal`, or adds what their like has cost (mutates it).

    A cost holds for one context, whose positions and offsets are looked at, and for one shape of input. A part that
    leaves more behind than its output and its routers' logits, as a cache that grows, runs each time.
    """

    def __init__(self, rehearsal: Rehearsal) -> None:
        self.rehearsal = rehearsal
        self._costs: dict[Hashable, Cost] = {}
        self._context: Callable[[], Context | None] = lambda: None

    def run(self, kind: int, forward: Forward, x: Tensor, context: Context) -> Tensor:
        """`forward(x, context)` of a part of this kind, or something of its shape."""
        if self._context() is not context:
            self._context, self._costs = weakref.ref(context), {}
        key = kind, x.shape, x.stride(), x.dtype
        if key not in self._costs:
            return self._watch(key, forward, x, context)
        cost, rehearsal = self._costs[key], self.rehearsal
        rehearsal.flops += cost.flops
        rehearsal.peak_bytes = max(rehearsal.peak_bytes, rehearsal.num_bytes + cost.rise)
        out, *logits = [x.new_empty_strided(size, stride, dtype=dtype) for size, stride, dtype in cost.left]
        if context.router_logits is not None:
            context.router_logits.extend(logits)
        return out

    def _watch(self, key: Hashable, forward: Forward, x: Tensor, context: Context) -> Tensor:
        """Run a part, and keep what it cost if that is all it does."""
        rehearsal = self.rehearsal
        num_bytes, peak_bytes, flops = rehearsal.num_bytes, rehearsal.peak_bytes, rehearsal.flops
        num_logits = len(context.router_logits or ())
        rehearsal.peak_bytes = num_bytes
        out = forward(x, context)
        left = [out, *(context.router_logits or [])[num_logits:]]
        if rehearsal.num_bytes - num_bytes == sum(tensor.nbytes for tensor in left):
            self._costs[key] = Cost(
                flops=rehearsal.flops - flops,
                rise=rehearsal.peak_bytes - num_bytes,
                left=tuple((tensor.shape, tensor.stride(), tensor.dtype) for tensor in left),
            )
        rehearsal.peak_bytes = max(rehearsal.peak_bytes, peak_bytes)
        return out


def kinds_of(model: nn.Module) -> dict[nn.Module, int]:
    """A number for each module; those of one number are of one class, built with equal values, of equal parts.

    >>> first, second, wider = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(2, 4)
    >>> list(kinds_of(nn.Sequential(first, second, wider)).values())
    [0, 0, 1, 2]
    """
    numbers: dict[Hashable, int] = {}
    kinds: dict[nn.Module, int] = {}

    def kind(module: nn.Module) -> int:
        if module not in kinds:
            values = [(name, value) for name, value in vars(module).items() if name not in SAYS_NOTHING]
            weights = chain(module._parameters.items(), module._buffers.items())
            what = (
                type(module),
                tuple((name, value if _is_hashable(value) else id(value)) for name, value in values),
                tuple(
                    (name, weight is not None and (weight.shape, weight.dtype)) for name, weight in weights
                ),
                tuple((name, part is not None and kind(part)) for name, part in module._modules.items()),
            )
            kinds[module] = numbers.setdefault(what, len(numbers))
        return kinds[module]

    kind(model)
    return kinds


def _is_hashable(value: object) -> bool:
    """Whether `==` says if two values are the same; a tensor or a list is equal to itself alone."""
    try:
        hash(value)
    except TypeError:
        return False
    return True
