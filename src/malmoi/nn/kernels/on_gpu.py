"""The kernels for GPUs (`gpu/`): whether they are here, and what they may be given.

They are written in Triton, which comes with PyTorch's builds for CUDA; without it, or where they have no place (a
gradient, `torch.compile`), each one's twin in PyTorch computes the same. Place in the flow: `rowwise.py`,
`paged_decode.py`, `prefill.py` and `plain_product.py` ask `gpu_kernels_for` for tensors that are on a GPU, as they ask
`native.kernels_for` for those that are not. Read next: `gpu/__init__.py`.
"""

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from malmoi.nn.kernels.native import TWINS, VARIABLE


def gpu_kernels_for(*tensors: Tensor) -> Any:
    """The module of kernels if these tensors may be given to one, else None: then their twin is the one to call.

    On a GPU, all of one precision, bf16 or fp32, and no gradient asked for.
    """
    if not tensors[0].is_cuda or torch.compiler.is_compiling():
        return None
    dtype, is_recording = tensors[0].dtype, torch.is_grad_enabled()
    if dtype is not torch.bfloat16 and dtype is not torch.float32:
        return None
    for tensor in tensors:
        if not tensor.is_cuda or tensor.dtype is not dtype or (is_recording and tensor.requires_grad):
            return None
    return _kernels()


@cache
def has_gpu_kernels() -> bool:
    """Whether Triton is here, and not switched off by the environment variable that chooses kernels."""
    return os.environ.get(VARIABLE) != TWINS and find_spec("triton") is not None


@cache
def _kernels() -> Any:
    return import_module("malmoi.nn.kernels.gpu") if has_gpu_kernels() else None
