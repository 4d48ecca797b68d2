"""Kernels in Triton (Tillet et al. 2019, MAPL), for steps of the engine on a GPU.

The same functions as in the files beside this package, with the same arithmetic: sums in fp32, rounded where the twins
round. Importing this package imports Triton, so only `on_gpu.py` does. Each file's kernels are compared with the twins
in `tests/nn/compare_gpu_kernels.py`, on a GPU or in Triton's interpreter. Read next: `rowwise.py`, the simplest.
"""

from malmoi.nn.kernels.gpu.decode import paged_decode
from malmoi.nn.kernels.gpu.prefill import prefill_attention
from malmoi.nn.kernels.gpu.product import row_product
from malmoi.nn.kernels.gpu.rounded import MOST_ROWS, rounded_product
from malmoi.nn.kernels.gpu.rowwise import add, gated, rms_norm, rotate_halves, store

__all__ = [
    "MOST_ROWS",
    "add",
    "gated",
    "paged_decode",
    "prefill_attention",
    "rms_norm",
    "rotate_halves",
    "rounded_product",
    "row_product",
    "store",
]
