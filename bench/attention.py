"""Our packed attention against PyTorch's fused CPU kernel: forward and backward, bf16, causal."""

import argparse

import torch
import torch.nn.functional as F
from interleave import measure_ratio
from torch import Tensor

from malmoi.nn.kernels.ragged import ragged_attention


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    for length in arguments.lengths:
        shape = (1, length, arguments.heads, arguments.head_dim)
        q, k, v, gradient = (torch.randn(shape).bfloat16() for _ in range(4))
        for x in (q, k, v):
            x.requires_grad_()
        offsets = torch.tensor([0, length])

        def ours(q: Tensor = q, k: Tensor = k, v: Tensor = v, g: Tensor = gradient, o: Tensor = offsets) -> None:
            ragged_attention(q, k, v, o, o, is_causal=True, scale=q.shape[-1] ** -0.5).backward(g)

        def peer(q: Tensor = q, k: Tensor = k, v: Tensor = v, g: Tensor = gradient) -> None:
            heads_first = (x.transpose(1, 2) for x in (q, k, v))
            F.scaled_dot_product_attention(*heads_first, is_causal=True).backward(g.transpose(1, 2))

        ours(), peer()
        measure_ratio(ours, peer, rounds=arguments.rounds, label=f"attention, {length} tokens")


if __name__ == "__main__":
    main()
