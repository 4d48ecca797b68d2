"""A forward, a backward or a whole training step on the meta device, with its memory and its work counted.

On the meta device a tensor has a shape and no memory, so a model of any size runs in a second. `Rehearsal` watches
every operator: which bytes are alive at a time, and how many floating-point operations the matrix products take.
There is no formula a family, so a new brick is counted as soon as it exists. Read next: `train/plan.py`,
which rehearses a step of training.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from malmoi.nn.kernels.ragged import attend_ragged, attend_ragged_backward

aten = torch.ops.aten
STEPS_AT_ONCE = 32  # without gradients, where what a step computes is soon gone
RECURRENCES = {torch.rnn_tanh, torch.lstm, torch.gru}
# What the compiler must not see is one operator; a rehearsal looks inside.
KERNELS: dict[str, Callable[..., Any]] = {
    "ragged_attention": attend_ragged,
    "ragged_attention_backward": attend_ragged_backward,
}


class Rehearsal(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context manager that counts what runs in it. The model is on the meta device, ids and offsets on the CPU.

    Integers are real, floats are only shapes: positions and offsets can be looked at, weights and scores cannot.
    Where a choice depends on scores, as that of the experts of a token, all are chosen equally often; a number that
    is asked for is 1. What existed before is not counted, a view costs nothing, and what a kernel allocates for
    itself and gives back is not seen.

    Attributes:
        num_bytes: alive now.
        peak_bytes: the most that were alive at a time.
        flops: of matrix products, convolutions and fused attention; a multiplication and an addition are two.

    >>> weight = torch.empty(4, 4, device="meta")
    >>> with Rehearsal() as rehearsal:
    ...     x = torch.empty(2, 4, device="meta")     # 32 bytes
    ...     for _ in range(9):
    ...         x = x @ weight                       # 2 x 2 x 4 x 4 operations; the last x and the next are alive
    >>> rehearsal.num_bytes, rehearsal.peak_bytes, rehearsal.flops
    (32, 64, 576)
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.num_bytes = self.peak_bytes = self.flops = 0
        self._storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._fused = Fused()

    def __enter__(self) -> "Rehearsal":
        self._fused.__enter__()  # type: ignore[no-untyped-call]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._fused.__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func.namespace == "malmoi":
            with self:
                return KERNELS[func._opname](*args, **kwargs)
        given = list(_tensors(args, kwargs.values()))
        for tensor in given:
            self._hold(tensor, num_bytes=0)
        if func is aten._local_scalar_dense.default and given[0].is_meta:
            return 1
        if func is aten._to_copy.default and _is_moved_integer(given[0], kwargs):
            return given[0]
        if len({tensor.is_meta for tensor in given}) == 2:
            args, kwargs = tree_map_only(Tensor, lambda x: x.to("meta"), (args, kwargs))
        out = func(*args, **kwargs)
        if func is aten.topk.default and given[0].is_meta:
            out = out[0], _in_turn(out[1].shape, given[0].shape[-1])
        for tensor in _tensors([out]):
            self._hold(tensor, num_bytes=tensor.untyped_storage().nbytes())
        self.flops += _flops(func, args, kwargs, out)
        return out

    def _hold(self, tensor: Tensor, *, num_bytes: int) -> None:
        """Count a storage that was not seen yet, until it is freed."""
        storage = tensor.untyped_storage()
        key = id(storage)
        if key in self._storages:
            return

        def forget(_: object) -> None:
            self.num_bytes -= num_bytes
            del self._storages[key]

        self._storages[key] = weakref.ref(storage, forget)
        self.num_bytes += num_bytes
        self.peak_bytes = max(self.peak_bytes, self.num_bytes)


class Fused(TorchFunctionMode):
    """Stands in for two fused functions of PyTorch, which on the meta device go another way than on a CPU.

    Attention picks the kernel that it would pick. A recurrence runs all of its steps as one: they wait for each
    other, but are of one size, so that what is kept and computed is the same, in a thousandth of the time.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is F.scaled_dot_product_attention and args[0].is_meta:
            mask = kwargs.get("attn_mask")
            has_gradient = mask is not None and mask.requires_grad
            if not has_gradient and args[1].shape[-1] == args[2].shape[-1]:
                if mask is not None and mask.stride(-1) != 1:
                    mask = mask.contiguous()  # as the kernel does
                options = {"is_causal": kwargs["is_causal"], "scale": kwargs["scale"], "attn_mask": mask}
                return aten._scaled_dot_product_flash_attention_for_cpu(*args, **options)[0]
        if func in RECURRENCES and args[0].is_meta:
            return _all_steps_at_once(func, args, kwargs)
        return func(*args, **kwargs)


def _all_steps_at_once(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A packed or padded recurrence as the first step of as many sequences as there are steps."""
    x, (*_, state, weights) = args[0], args
    vectors = state if isinstance(state, list) else [state]
    kwargs.pop("batch_first", None)
    copies = (
        [weight.detach().clone() for weight in weights] if func is torch.lstm else []
    )  # as the CPU's does
    steps = x.reshape(-1, x.shape[-1])
    outs = []
    for part in steps.split(len(steps) if torch.is_grad_enabled() else STEPS_AT_ONCE):
        starts = [vector.new_empty(1, len(part), vector.shape[-1]) for vector in vectors]
        start = starts if len(starts) > 1 else starts[0]
        out, *after = func(part, torch.tensor([len(part)]), start, weights, **kwargs)
        outs.append(out)
    del copies
    ends = [
        vector.expand_as(start) for vector, start in zip((end[:, :1] for end in after), vectors, strict=True)
    ]
    return torch.cat(outs).view(*x.shape[:-1], -1), *ends


def _flops(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> int:
    """By PyTorch's formulas, and its formula of fused attention for the kernel of the CPU, which has none."""
    if func is aten._scaled_dot_product_flash_attention_for_cpu.default:
        return int(sdpa_flop_count(*(x.shape for x in args[:3])))  # type: ignore[no-untyped-call]
    if func is aten._scaled_dot_product_flash_attention_for_cpu_backward.default:
        return int(sdpa_backward_flop_count(*(x.shape for x in args[:4])))  # type: ignore[no-untyped-call]
    formula = flop_registry.get(func.overloadpacket)
    return 0 if formula is None else int(formula(*args, **kwargs, out_val=out))


def _tensors(*trees: Iterable[object]) -> Iterator[Tensor]:
    """Those among the arguments or results of an operator, which nests them in lists at most."""
    for leaf in chain(*trees):
        if isinstance(leaf, Tensor):
            yield leaf
        elif isinstance(leaf, list | tuple):
            yield from _tensors(leaf)


def _is_moved_integer(tensor: Tensor, options: Mapping[str, Any]) -> bool:
    """Whether integers would lose their values on the meta device."""
    to = options.get("device")
    return to is not None and to.type == "meta" and not tensor.is_meta and not tensor.is_floating_point()


def _in_turn(shape: torch.Size, num_choices: int) -> Tensor:
    """Choices 0 1 2 ... over and over, as a router chooses that is perfectly balanced."""
    return (torch.arange(shape.numel()) % num_choices).view(shape)
