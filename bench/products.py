"""Products with packed weights against PyTorch's own: bytes of weights and operations a second, by the number of rows.

One thread and its processor time, so that other work on the machine takes less of a part; of each product the best of
several rounds, in turn. Matrices are as many as do not fit into the cache, as the layers of a model are.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from malmoi.nn.kernels.native import level
from malmoi.nn.kernels.packed_product import packed_product, rounded_product
from malmoi.nn.kernels.packing import pack, round_to

BITS = {"plain": 16.0, "oneDNN": 16.0, "bf16": 16.0, "int8": 8.5, "int4": 4.5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--sizes", nargs="+", default=["4096x1024", "2048x2048", "4096x4096"], help="outputs x inputs"
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 16, 64, 512])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--megabytes", type=int, default=160, help="of bf16 weights, of a size")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stream = torch.zeros(2**26)
    print(f"{level()}; a sum reads {stream.nbytes / best([stream.sum], arguments.rounds)[0] / 1e9:.1f} GB/s")
    for size in arguments.sizes:
        out_size, in_size = map(int, size.split("x"))
        count = max(1, arguments.megabytes * 10**6 // (2 * out_size * in_size))
        products = products_of([torch.randn(out_size, in_size).bfloat16() for _ in range(count)])
        for num_rows in arguments.rows:
            x = torch.randn(num_rows, in_size).bfloat16()
            num_used = count if num_rows < 64 else max(1, count // 8)
            actions = [lambda ps=ps[:num_used], x=x: [p(x) for p in ps] for ps in products.values()]
            num_weights = out_size * in_size * num_used
            for name, seconds in zip(products, best(actions, arguments.rounds), strict=True):
                rate = num_weights * BITS[name] / 8e9 / seconds
                print(
                    f"{size:>10} {num_rows:4} rows {name:>7}: {rate:6.1f} GB/s "
                    f"{2e-9 * num_weights * num_rows / seconds:6.0f} GFLOP/s",
                    flush=True,
                )


def products_of(weights: Sequence[Tensor]) -> dict[str, list[Callable[[Tensor], Tensor]]]:
    """The product with each weight, in each form."""
    out_size = len(weights[0])
    forms: dict[str, Callable[[Tensor], Callable[[Tensor], Tensor]]] = {
        "plain": lambda w: lambda x: F.linear(x, w),
        "oneDNN": lambda w: one_dnn(torch.ops.mkldnn._reorder_linear_weight(w, 1)),
        "bf16": lambda w: (lambda panels: lambda x: packed_product(x, panels, None, out_size=out_size))(
            pack(w)
        ),
        "int8": lambda w: (lambda r: lambda x: rounded_product(x, r, None, out_size=out_size))(
            round_to("int8", w, 32)
        ),
        "int4": lambda w: (lambda r: lambda x: rounded_product(x, r, None, out_size=out_size))(
            round_to("int4", w, 32)
        ),
    }
    return {name: [form(weight) for weight in weights] for name, form in forms.items()}


def one_dnn(weight: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


def best(actions: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """The least seconds of processor time of each."""
    found = [float("inf")] * len(actions)
    for number in range(rounds + 1):  # the first is for warming up
        for index, action in enumerate(actions):
            began = time.thread_time()
            action()
            if number:
                found[index] = min(found[index], time.thread_time() - began)
    return found


if __name__ == "__main__":
    main()
