"""What this machine can do at most: bytes read from memory, and operations of matrix products, a second.

No model can be faster than the slower of the two allows (Williams, Waterman and Patterson 2009, Communications of the
ACM 52(4), "Roofline"). Our difference: both are measured here, with the code that a model would be run by, since what
a data sheet says is not what a virtual machine gets. Read next: `work.py`, what a model asks of them.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from malmoi.nn.packed import PanelWeight, is_worth_packing

CACHES = 4
"""A stream this many times the last-level cache finds next to nothing of itself there."""
SMALLEST = 256 * 2**20  # bytes: some virtual machines tell of a smaller cache than they have
LONG_ENOUGH = 0.2  # seconds of a measurement: many times the clock's and the scheduler's grain


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """`bandwidth` in bytes a second, `matrix_rate` in floating-point operations a second."""

    bandwidth: float
    matrix_rate: float


class ReadStream:
    """Reads a buffer of more than `CACHES` last-level caches from end to end; a call gives bytes a second.

    >>> ReadStream(last_cache=2**20)() > 0
    True
    """

    def __init__(self, last_cache: int) -> None:
        # Ones, since zeros would be a single page of memory under many addresses.
        self.buffer = torch.ones(max(SMALLEST, CACHES * last_cache) // 4 + 1)

    def __call__(self) -> float:
        return self.buffer.nbytes / seconds_of(self.buffer.sum)


@dataclass(frozen=True)
class Product:
    """One way to multiply `rows` vectors with a matrix of (`inputs`, `outputs`)."""

    way: str
    rows: int
    inputs: int
    outputs: int
    compute: Callable[[], Tensor]

    def __str__(self) -> str:
        return f"{self.way}, {self.rows} × {self.inputs} × {self.outputs}"

    def rate(self) -> float:
        """Operations a second, measured now."""
        return 2 * self.rows * self.inputs * self.outputs / seconds_of(self.compute)


class MatrixProducts:
    """The best of PyTorch's and our matrix products at the shapes of a model; a call measures that one again.

    Which one is the best is found out once, when it is made.

    >>> products = MatrixProducts([(64, 128)], rows=16, dtype=torch.float32)
    >>> products() > 0, str(products.best)
    (True, 'linear, 16 × 64 × 128')
    """

    def __init__(self, shapes: Iterable[tuple[int, int]], *, rows: int, dtype: torch.dtype) -> None:
        ways = [way for inputs, outputs in shapes for way in products_of(rows, inputs, outputs, dtype)]
        self.best = max(ways, key=Product.rate)

    def __call__(self) -> float:
        return self.best.rate()


def seconds_of(compute: Callable[[], object]) -> float:
    """Mean seconds of a call, over as many as `LONG_ENOUGH` has room for, after one that does not count."""
    compute()
    began = time.perf_counter()
    count, spent = 0, 0.0
    while spent < LONG_ENOUGH:
        compute()
        count += 1
        spent = time.perf_counter() - began
    return spent / count


def products_of(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> Iterator[Product]:
    """Every way that this machine has to multiply random numbers of these shapes."""
    x, weight = torch.randn(rows, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
    yield Product("linear", rows, inputs, outputs, lambda: F.linear(x, weight))
    if dtype == torch.bfloat16 and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        multiply = torch.ops.mkldnn._linear_pointwise
        yield Product(
            "oneDNN, packed", rows, inputs, outputs, lambda: multiply(x, packed, None, "none", [], "")
        )
    if dtype == torch.bfloat16 and is_worth_packing():
        panels = PanelWeight(weight)
        yield Product("our kernel, packed", rows, inputs, outputs, lambda: panels.product(x, None))
