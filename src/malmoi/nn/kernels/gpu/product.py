"""One row times a matrix, at the speed at which the matrix is read.

Libraries are written for products of many rows; a single one, which is what one sequence decodes, is a matter of memory
alone. Place in the flow: `kernels/plain_product.py` calls this. Read next: `packed_product.py`, the same on a
processor.
"""

from typing import no_type_check

import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from malmoi.nn.kernels.gpu.overlap import launch_options, wait

INPUTS, WARPS = 1024, 4
"""How many numbers of its row a program has in flight, and on how many warps. Measured: docs/lab-log.md, section 13."""


def row_product(
    x: Float[Tensor, "*batch I"], matrix: Float[Tensor, "O I"], bias: Float[Tensor, " O"] | None
) -> Float[Tensor, "*batch O"]:
    """`x W^T + b` for a single row x, summed in fp32 and rounded once."""
    num_outputs, num_inputs = matrix.shape
    out = x.new_empty(*x.shape[:-1], num_outputs)
    _row_product[(num_outputs,)](
        x,
        matrix,
        matrix if bias is None else bias,
        out,
        num_inputs,
        bias is not None,
        INPUTS,
        num_warps=WARPS,
        **launch_options(x.device),
    )
    return out


@triton.jit
@no_type_check
def _row_product(
    x,
    matrix,
    bias,
    out,
    NUM_INPUTS: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    INPUTS: tl.constexpr,
    OVERLAPS: tl.constexpr,
):
    o = tl.program_id(0)
    i = tl.arange(0, INPUTS)
    row = matrix + o.to(tl.int64) * NUM_INPUTS
    # The first weights are read while the kernel that makes x still runs.
    weights = tl.load(row + i, mask=i < NUM_INPUTS, other=0.0, eviction_policy="evict_first")
    wait(OVERLAPS)
    total = tl.zeros((INPUTS,), dtype=tl.float32)
    for start in range(0, NUM_INPUTS, INPUTS):
        at = start + i
        ahead = tl.load(
            row + at + INPUTS, mask=at + INPUTS < NUM_INPUTS, other=0.0, eviction_policy="evict_first"
        )
        numbers = tl.load(x + at, mask=at < NUM_INPUTS, other=0.0)
        total += weights.to(tl.float32) * numbers.to(tl.float32)
        weights = ahead
    y = tl.sum(total, 0)
    if HAS_BIAS:
        y += tl.load(bias + o).to(tl.float32)
    tl.store(out + o, y.to(out.dtype.element_ty))
