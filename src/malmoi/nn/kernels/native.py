"""The kernels in C++ (`csrc/`): whether they are here, which of them run, and what they may be given.

The package is built with them where there is a compiler; without, or where they have no place (another device, a
gradient, `torch.compile`), each one's twin in PyTorch computes the same. Place in the flow: `packed_product.py`,
`paged_decode.py` and `rowwise.py` ask `kernels_for` and hand addresses over. Read next: `docs/decisions/0009`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from malmoi.core.errors import ConfigError

VARIABLE = "MALMOI_KERNELS"
"""The environment variable that says which level to use, when this module is first imported."""

TWINS = "torch"
"""The level that has no kernels, only their twins."""


def levels() -> list[str]:
    """What this processor can run, the best first; the last is always the twins in PyTorch.

    >>> levels()[-1]
    'torch'
    """
    return [*(_native.levels() if _native else []), TWINS]


def level() -> str:
    """What is in use."""
    return _native.level() if _native and _is_on else TWINS


def use(name: str) -> None:
    """Choose a level for the whole process. Raises ConfigError for one that this processor does not run."""
    global _is_on
    if name not in levels():
        why = "" if _native else " Malmoi was built without a C++ compiler."
        raise ConfigError(f"kernels of the level {name!r} do not run here.{why} Use {', '.join(levels())}.")
    _is_on = name != TWINS
    if _is_on:
        _native.use(name)


@contextmanager
def using(name: str) -> Iterator[None]:
    """`use(name)`, and what was in use again after."""
    before = level()
    use(name)
    try:
        yield
    finally:
        use(before)


def kernels_for(*tensors: Tensor) -> Any:
    """The module of kernels if these tensors may be given to one, else None: then their twin is the one to call.

    On the CPU, all of one precision, bf16 or fp32, and no gradient asked for. What lies in memory in another order is
    for the caller to make contiguous.
    """
    # In this order: the compiler cannot trace the questions after the first.
    if torch.compiler.is_compiling() or not _is_on:
        return None
    dtype, is_recording = tensors[0].dtype, torch.is_grad_enabled()
    if dtype is not torch.bfloat16 and dtype is not torch.float32:
        return None
    for tensor in tensors:
        if not tensor.is_cpu or tensor.dtype is not dtype or (is_recording and tensor.requires_grad):
            return None
    return _native


def in_large_pages(tensor: Tensor) -> Tensor:
    """The tensor, which nobody has written yet, where the system can do it in pages of 2 MB.

    Weights are read from end to end in each step: then there are 512 times fewer pages to look up.
    """
    if _native and tensor.is_cpu:
        _native.use_large_pages(tensor.data_ptr(), tensor.nbytes)
    return tensor


def new_tape() -> Any:
    """Something that kernels can be written on, and be played from; None if there are none."""
    return _native.Tape() if _native else None


def write_on(tape: Any) -> None:
    """From now on write down each kernel that this thread runs; on None, no longer."""
    if _native:
        _native.record(tape)


def _load() -> Any:
    # Found by its parts: where the package lies in two folders, an absent module is an error with another name.
    if find_spec(f"{__package__}._native") is None:
        return None
    return import_module(f"{__package__}._native")


_native = _load()
_is_on = _native is not None
if VARIABLE in os.environ:
    use(os.environ[VARIABLE])
