"""One query a sequence over the keys and values that lie in a pool of blocks: the kernels and their twin.

What every sequence does in a step of decoding. Gathering the keys would read and write them once more; here they are
read where they lie, each once for all query heads that share it. Place in the flow: `paged.py` calls this for a batch
of single queries. Read next: `csrc/attention.h`.
"""

from typing import Any, TypeAlias, cast

import torch
from jaxtyping import Float, Float32, Int, Int32, Num
from torch import Tensor

from malmoi.core.errors import ConfigError
from malmoi.nn.kernels.native import kernels_for
from malmoi.nn.kernels.on_gpu import gpu_kernels_for
from malmoi.nn.kernels.reference import rows_attention_reference

LANES = 16
"""The kernel in C++ reads heads in whole vectors: widths that are not a multiple go to the twin."""

Scales: TypeAlias = tuple[Float32[Tensor, "slots K"], Float32[Tensor, "slots K"]]
"""Of keys and of values in 8 bits, one a slot and head: what a step is worth (`int8_cache`)."""


def paged_decode(
    q: Float[Tensor, "B N H"],
    k_pool: Num[Tensor, "slots K H"],
    v_pool: Num[Tensor, "slots K Hv"],
    blocks: Int32[Tensor, "B max_blocks"],
    lengths: Int32[Tensor, " B"],
    *,
    block_size: int,
    scale: float,
    window: int | None = None,
    soft_cap: float | None = None,
    scales: Scales | None = None,
) -> Float[Tensor, "B N Hv"]:
    """Attention of the last position of each of B sequences; sequence b has its positions in `blocks[b]`, in order.

    Block n of 16 slots is the slots 16 n to 16 n + 15 of the pool. Scores, softmax and sums in fp32, rounded once at
    the end. Pools of int8 come with their `scales`; a score and a weight are multiplied by them, not each number. What
    a sequence gets does not depend on the others or on the number of threads, on the CPU. There a length below 1, and
    one that its blocks do not hold, raises ConfigError.

    >>> pool = torch.tensor([0.0, 0.0, 1.0, 3.0]).view(4, 1, 1)     # two blocks of two slots
    >>> blocks, lengths = torch.tensor([[1]], dtype=torch.int32), torch.tensor([2], dtype=torch.int32)
    >>> paged_decode(torch.zeros(1, 1, 1), pool, pool, blocks, lengths, block_size=2, scale=1.0)   # the mean of 1 and 3
    tensor([[[2.]]])
    """
    kernels = kernels_over(q, k_pool, v_pool, scales)
    is_whole = k_pool.is_contiguous() and v_pool.is_contiguous()  # a copy of a pool would cost more than all
    if kernels is not None and is_whole and q.is_cuda:
        said: Any = {"block_size": block_size, "scale": scale, "window": window, "soft_cap": soft_cap}
        return cast(Tensor, kernels.paged_decode(q.contiguous(), k_pool, v_pool, blocks, lengths, **said))
    if kernels is None or not is_whole:
        return paged_decode_reference(
            q,
            k_pool,
            v_pool,
            blocks,
            lengths,
            block_size=block_size,
            scale=scale,
            window=window,
            soft_cap=soft_cap,
            scales=scales,
        )
    q, blocks, lengths = q.contiguous(), blocks.contiguous(), lengths.contiguous()
    num_sequences, num_heads, head_dim = q.shape
    out = q.new_empty(num_sequences, num_heads, v_pool.shape[-1])
    fits = kernels.paged_decode(
        q.dtype is torch.bfloat16,
        num_sequences,
        num_heads,
        k_pool.shape[1],
        head_dim,
        v_pool.shape[-1],
        q.data_ptr(),
        k_pool.data_ptr(),
        v_pool.data_ptr(),
        *addresses_of(scales),
        blocks.data_ptr(),
        blocks.shape[1],
        block_size,
        lengths.data_ptr(),
        -1 if window is None else window,
        scale,
        soft_cap or 0.0,
        out.data_ptr(),
        torch.get_num_threads(),
    )
    if not fits:
        raise _do_not_fit(blocks, lengths, block_size)
    return out


def paged_decode_reference(
    q: Float[Tensor, "B N H"],
    k_pool: Num[Tensor, "slots K H"],
    v_pool: Num[Tensor, "slots K Hv"],
    blocks: Int32[Tensor, "B max_blocks"],
    lengths: Int32[Tensor, " B"],
    *,
    block_size: int,
    scale: float,
    window: int | None = None,
    soft_cap: float | None = None,
    scales: Scales | None = None,
) -> Float[Tensor, "B N Hv"]:
    """The same, each sequence's keys gathered, widened and attended to in fp32."""
    if len(lengths) and not 1 <= lengths.min() <= lengths.max() <= blocks.shape[1] * block_size:
        raise _do_not_fit(blocks, lengths, block_size)
    said: Any = {"scale": scale, "window": window, "soft_cap": soft_cap}
    outs = []
    for query, own, length in zip(q, blocks.long(), lengths.tolist(), strict=True):
        slots = (own[:, None] * block_size + torch.arange(block_size, device=own.device)).flatten()[:length]
        k, v = (x[None] for x in widened(k_pool, v_pool, slots, scales))
        outs.append(rows_attention_reference(query[None, None].float(), k, v, is_causal=True, **said)[0, 0])
    return torch.stack(outs).to(q.dtype)


def kernels_over(q: Tensor, k: Tensor, v: Tensor, scales: Scales | None) -> Any:
    """The kernels that read these heads as they are, or None: of q's precision, or, on the CPU, in 8 bits."""
    if q.is_cuda:
        return gpu_kernels_for(q, k, v) if scales is None and v.shape[-1] else None
    if q.shape[-1] % LANES or v.shape[-1] % LANES:
        return None
    if scales is None:
        return kernels_for(q, k, v)
    is_int8 = k.is_cpu and k.dtype is v.dtype is torch.int8 and all(x.is_contiguous() for x in scales)
    return kernels_for(q) if is_int8 else None


def addresses_of(scales: Scales | None) -> tuple[int, int]:
    """For the kernels: 0 says that there are none."""
    return (0, 0) if scales is None else (scales[0].data_ptr(), scales[1].data_ptr())


def widened(
    k: Num[Tensor, "slots K H"], v: Num[Tensor, "slots K Hv"], slots: Int[Tensor, " S"], scales: Scales | None
) -> tuple[Float32[Tensor, "S K H"], Float32[Tensor, "S K Hv"]]:
    """For the twins: what lies in `slots`, in fp32.

    >>> codes = torch.tensor([[[127, -64]]], dtype=torch.int8)
    >>> widened(codes, codes, torch.tensor([0]), (torch.tensor([[0.5]]), torch.tensor([[1.0]])))[0]
    tensor([[[ 63.5000, -32.0000]]])
    """
    if scales is None:
        return k[slots].float(), v[slots].float()
    return k[slots] * scales[0][slots][..., None], v[slots] * scales[1][slots][..., None]


def _do_not_fit(blocks: Tensor, lengths: Tensor, block_size: int) -> ConfigError:
    return ConfigError(
        f"lengths from {int(lengths.min())} to {int(lengths.max())} do not fit {blocks.shape[1]} blocks of "
        f"{block_size}. A sequence has a position at least, and a block for each."
    )
