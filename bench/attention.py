"""Our packed attention against PyTorch's fused kernel on the processor: forward and backward, causal.

The same tokens in sequences of one length: ours end to end with offsets, the peer's as rows of a batch, so that
neither needs padding.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from interleave import measure_ratio
from torch import Tensor

from malmoi.nn.kernels.ragged import ragged_attention
from malmoi.train.precision import resolve_precision

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--tokens", type=int, default=4096, help="in all; a multiple of every length")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="auto")
    arguments = parser.parse_args()
    dtype = resolve_precision(arguments.precision, torch.device("cpu")) or torch.float32
    shape = (1, arguments.tokens, arguments.heads, arguments.head_dim)
    print(f"{shape} in {dtype}, {torch.get_num_threads()} threads")
    for length in arguments.lengths:
        inputs = [torch.randn(shape).to(dtype).requires_grad_() for _ in range(3)]
        ours, peer = partial(packed_attention, length), partial(fused_attention, length)
        difference = (ours(*inputs) - peer(*inputs)).abs().max().item()
        assert difference < 0.05, f"the two are not the same function: they differ by {difference}"
        measure = partial(measure_ratio, rounds=arguments.rounds)
        measure(partial(ours, *inputs), partial(peer, *inputs), label=f"forward, {length} tokens")
        measure(backward(ours, inputs), backward(peer, inputs), label=f"backward, {length} tokens")


def packed_attention(length: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    offsets = torch.arange(0, q.shape[1] + 1, length)
    return ragged_attention(q, k, v, offsets, offsets, is_causal=True, scale=q.shape[-1] ** -0.5)


def fused_attention(length: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    rows = (x[0].unflatten(0, (-1, length)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(*rows, is_causal=True).transpose(1, 2).flatten(0, 1)[None]


def backward(attention: Attention, inputs: Sequence[Tensor]) -> Callable[[], object]:
    """The backward pass alone, of a forward that is done once."""
    out = attention(*inputs)
    return partial(torch.autograd.grad, out, inputs, torch.ones_like(out), retain_graph=True)


if __name__ == "__main__":
    main()
