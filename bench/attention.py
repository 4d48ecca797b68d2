"""Our attention against PyTorch's fused kernel on the processor, causal: packed for training, a prompt's, decoding.

Packed: the same tokens in sequences of one length, forward and backward, ours end to end with offsets, the peer's as
rows of a batch, so that neither needs padding. A prompt, whole or its last chunk, in inference: the kernel in C++
against the loop of matrix products that it replaces, and against the fused kernel. Decoding: one query over keys and
values of 8 bits against the same in bf16, each call in another of many layers' pools, as in a model, so that they come
out of memory and not out of the processor's cache.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from interleave import measure_ratio
from torch import Tensor

from malmoi.nn.cache import KeyValueSpec, PagedCache
from malmoi.nn.int8_cache import Int8PagedCache
from malmoi.nn.kernels import native
from malmoi.nn.kernels.paged_decode import paged_decode
from malmoi.nn.kernels.ragged import attend_ragged, ragged_attention
from malmoi.train.precision import resolve_precision

COLD_BYTES = 2**26
"""Of all layers' keys and values in 8 bits, more than a last-level cache has."""

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--tokens", type=int, default=4096, help="in all; a multiple of every length")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--kv-heads", type=int, default=4, help="of a prompt")
    parser.add_argument("--prompts", type=int, nargs="*", default=[512, 2048, 4096], help="tokens of each")
    parser.add_argument(
        "--chunk", type=int, default=512, help="tokens of the last chunk of the longest prompt"
    )
    parser.add_argument("--decoded", type=int, nargs="*", default=[1024, 4096, 16384], help="keys of each")
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
    spans = [(length, length) for length in arguments.prompts]
    if spans:
        spans.append((arguments.chunk, max(arguments.prompts)))
    for num_queries, num_keys in spans:
        q = torch.randn(1, num_queries, arguments.heads, arguments.head_dim).to(dtype)
        k, v = (torch.randn(1, num_keys, arguments.kv_heads, arguments.head_dim).to(dtype) for _ in "kv")
        measure_prompt(q, k, v, rounds=arguments.rounds)
    for num_heads, num_kv_heads, head_dim in [(16, 8, 64), (32, 8, 128)]:
        q = torch.randn(1, num_heads, head_dim).bfloat16()
        spec = KeyValueSpec(num_kv_heads=num_kv_heads, head_dim=head_dim)
        for num_keys in arguments.decoded:
            measure_decoding(q, spec, num_keys=num_keys, rounds=arguments.rounds)


def packed_attention(length: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    offsets = torch.arange(0, q.shape[1] + 1, length)
    return ragged_attention(q, k, v, offsets, offsets, is_causal=True, scale=q.shape[-1] ** -0.5)


def fused_attention(length: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    rows = (x[0].unflatten(0, (-1, length)).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(*rows, is_causal=True).transpose(1, 2).flatten(0, 1)[None]


@torch.inference_mode()
def measure_prompt(q: Tensor, k: Tensor, v: Tensor, *, rounds: int) -> None:
    """Queries at the end of the keys' sequence, so that a chunk sees what came before it."""
    num_queries, num_keys, scale = q.shape[1], k.shape[1], q.shape[-1] ** -0.5
    offsets = [torch.tensor([0, length]) for length in (num_queries, num_keys)]
    is_whole = num_queries == num_keys
    mask = (
        None if is_whole else torch.ones(num_queries, num_keys, dtype=torch.bool).tril(num_keys - num_queries)
    )
    ours = partial(ragged_attention, q, k, v, *offsets, is_causal=True, scale=scale)
    products = partial(attend_ragged, q, k, v, *offsets, True, scale, None, None)
    heads_first = (x.transpose(1, 2) for x in (q, k, v))
    fused = partial(
        F.scaled_dot_product_attention, *heads_first, attn_mask=mask, is_causal=is_whole, enable_gqa=True
    )
    label = f"prompt, {num_queries} of {num_keys} tokens, kernels {native.level()}"
    measure_ratio(ours, products, rounds=rounds, label=f"{label}, matrix products")
    measure_ratio(ours, fused, rounds=rounds, label=f"{label}, fused")


@torch.inference_mode()
def measure_decoding(q: Tensor, spec: KeyValueSpec, *, num_keys: int, rounds: int) -> None:
    num_layers = -(-COLD_BYTES // (num_keys * spec.bytes_per_token(1)))
    eights, wholes = (
        [kind(num_keys, spec, dtype=torch.bfloat16, device="cpu") for _ in range(num_layers)]
        for kind in (Int8PagedCache, PagedCache)
    )
    slots = torch.arange(num_keys)
    for pools in zip(eights, wholes, strict=True):
        k, v = (torch.randn(num_keys, spec.num_kv_heads, spec.head_dim).bfloat16() for _ in "kv")
        for pool in pools:
            pool.write(slots, k, v)
    blocks = torch.randperm(num_keys // 16, dtype=torch.int32)[None]
    lengths = torch.tensor([num_keys], dtype=torch.int32)

    def decode(pools: Sequence[PagedCache]) -> None:
        said: Any = {"block_size": 16, "scale": spec.head_dim**-0.5}
        for pool in pools:
            paged_decode(q, pool.k, pool.v, blocks, lengths, scales=pool.scales, **said)

    shape = f"{q.shape[1]} heads over {spec.num_kv_heads} of {spec.head_dim}"
    label = f"decoding, {num_keys} keys, {shape}, {num_layers} layers, kernels {native.level()}, 8 bits against bf16"
    measure_ratio(partial(decode, eights), partial(decode, wholes), rounds=rounds, label=label)


def backward(attention: Attention, inputs: Sequence[Tensor]) -> Callable[[], object]:
    """The backward pass alone, of a forward that is done once."""
    out = attention(*inputs)
    return partial(torch.autograd.grad, out, inputs, torch.ones_like(out), retain_graph=True)


if __name__ == "__main__":
    main()
