"""A computation that is run once and written down: run again, it takes the time of its kernels and little more.

What a step of decoding does between one kernel and the next (modules, checks, memory for results) takes longer than
the kernels of a small model, and is the same in every step. Here it is done once. Place in the flow:
`engine/replay.py` records steps. Read next: `csrc/tape.h`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, UntypedStorage
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from malmoi.nn.kernels.native import new_tape, write_on

T = TypeVar("T")


class CannotRecord(Exception):
    """What is computed looks at numbers, or its size depends on them: the next time it may be something else."""


class Recording(Generic[T]):
    """`function()`, computed now and written down. `replay` computes it again, from the numbers that are there then.

    It reads and writes the same memory each time: put new numbers into the tensors that the function reads, and find
    the results in `out`. Kernels of this package go on a tape, PyTorch's operators are called again one by one.
    Everything that was used is kept. To be made and replayed in inference mode. Raises CannotRecord where what is
    computed depends on the numbers.

    >>> x = torch.tensor([1.0, 2.0])
    >>> with torch.inference_mode():
    ...     double = Recording(lambda: x * 2)
    ...     _ = x.fill_(5)
    ...     double.replay()
    tensor([10., 10.])
    """

    out: T

    def __init__(self, function: Callable[[], T]) -> None:
        self.num_operators = 0  # of PyTorch
        self._steps: list[Callable[[], object]] = []
        self._kept: list[UntypedStorage] = []  # not tensors: somebody may give one other memory
        self._tape: Any = None
        try:
            self._turn_tape()
            with _Questions(self.keep), _Operators(self):
                self.out = function()
            self._turn_tape()
        finally:
            write_on(None)

    def replay(self) -> T:
        """Compute it again (mutates `out`, and what the function mutates)."""
        for step in self._steps:
            step()
        return self.out

    def keep(self, tensors: object) -> None:
        """Hold the memory of all tensors in there: it will be read again, or written."""
        self._kept += (x.untyped_storage() for x in tree_leaves(tensors) if isinstance(x, Tensor))

    def note(self, operator: Callable[[], Any], results: list[Tensor]) -> None:
        """An operator of PyTorch comes next, which makes `results`."""
        self._turn_tape()
        self.num_operators += 1
        self._steps.append(partial(_repeat, operator, results) if results else operator)

    def _turn_tape(self) -> None:
        if self._tape is not None and not self._tape.is_empty():
            self._steps.append(partial(_play, self._tape, torch.get_num_threads()))
        self._tape = new_tape()
        write_on(self._tape)


def _play(tape: Any, num_threads: int) -> None:
    if not tape.play(num_threads):
        raise IndexError(
            "a slot, a length or an id is outside of the memory that was there when this was recorded"
        )


def _repeat(operator: Callable[[], Any], results: list[Tensor]) -> None:
    out = operator()
    for result, new in zip(results, [out] if isinstance(out, Tensor) else tree_leaves(out), strict=True):
        result.copy_(new)


def refusing_questions() -> TorchFunctionMode:
    """While it is entered, to ask what the numbers of a tensor are raises CannotRecord."""
    return _Questions(lambda tensors: None)


class _Questions(TorchFunctionMode):
    """Refuses to say what the numbers are; tells of the tensors whose addresses kernels get."""

    ASKED = frozenset(
        {"tolist", "item", "numpy", "__array__", "__dlpack__"}
        | {"__bool__", "__int__", "__float__", "__index__", "__contains__"}
    )
    COPYING = frozenset({"tensor", "as_tensor"})

    def __init__(self, keep: Callable[[object], None]) -> None:
        super().__init__()
        self.keep = keep

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in self.ASKED:
            raise CannotRecord(f"Tensor.{name}() is called")
        if name in self.COPYING and any(isinstance(x, Tensor) for x in tree_leaves(args)):
            raise CannotRecord(f"torch.{name} makes a constant of a tensor")
        if name == "data_ptr":
            self.keep(args)
        return func(*args, **(kwargs or {}))


def _depends_on_numbers(func: Any, args: Any) -> bool:
    """Whether what it returns, or how much of it there is, is not said by the sizes of its arguments."""
    if func is torch.ops.aten.index.Tensor:  # by a mask: as many as are true
        return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    tags = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
    return any(tag in func.tags for tag in tags)


class _Operators(TorchDispatchMode):
    """Writes down what PyTorch computes. Views and new memory are there already when it is computed again."""

    ALLOCATING = frozenset({"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"})

    def __init__(self, recording: "Recording[Any]") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.recording = recording

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to be skipped by the compiler, a mode imports it, which takes longer than a first answer."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _depends_on_numbers(func, args):
            raise CannotRecord(f"{func} is called")
        out = func(*args, **kwargs)
        self.recording.keep((args, kwargs, out))
        name = func.overloadpacket.__name__
        if name in self.ALLOCATING or name == "detach_":
            return out
        if torch.Tag.inplace_view in func.tags:
            raise CannotRecord(f"{func} gives a tensor another shape")
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        places = {x.untyped_storage().data_ptr() for x in given}
        results = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        has_new = any(x.untyped_storage().data_ptr() not in places for x in results)
        if func._schema.is_mutable and has_new:
            raise CannotRecord(f"{func} writes, and makes something new")
        if func._schema.is_mutable or has_new:
            self.recording.note(partial(func, *args, **kwargs), results if has_new else [])
        return out
