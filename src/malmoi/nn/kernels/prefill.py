"""Many queries of one sequence over its keys, block by block: the kernels and their twin.

What a prompt does, or a chunk of it. The scores of a few keys exist at a time, in fp32, and the keys are read where
they lie: end to end, or in the blocks of a pool. Place in the flow: `rows.py`, `ragged.py` and `paged.py` call this
where there is a kernel and nobody asks for a gradient. Read next: `csrc/prefill.h`.
"""

from typing import Any, cast

import torch
from jaxtyping import Float, Int32, Num
from torch import Tensor

from malmoi.core.errors import ConfigError
from malmoi.nn.kernels.paged_decode import Scales, addresses_of, kernels_over, widened
from malmoi.nn.kernels.reference import rows_attention_reference


def prefill_attention(
    q: Float[Tensor, "T N H"],
    k: Num[Tensor, "tokens K H"],
    v: Num[Tensor, "tokens K Hv"],
    *,
    num_keys: int,
    is_causal: bool,
    scale: float,
    window: int | None = None,
    soft_cap: float | None = None,
    blocks: Int32[Tensor, " blocks"] | None = None,
    block_size: int = 1,
    scales: Scales | None = None,
) -> Float[Tensor, "T N Hv"]:
    """Attention of a sequence's last T positions over its `num_keys`: the first ones of k and v, or those in `blocks`.

    Flash attention (Dao et al. 2022, arXiv:2205.14135, section 3.1); ours lays the queries in lanes, not the keys, and
    cuts the keys at fixed positions. So a position gets the same bits in a prompt read whole and in chunks, on any
    number of threads. Scores, softmax and sums are fp32; with bf16 operands a processor that multiplies bf16 rounds
    the weights to bf16 before they meet the values. Block n of 16 tokens is the rows 16 n to 16 n + 15 of k and v.
    Keys and values in int8 come with their `scales`, and are widened where they are laid out for the products.
    Raises ConfigError for more keys than there are, and for fewer than queries if causal.

    >>> values = torch.tensor([9.0, 9.0, 1.0, 3.0]).view(4, 1, 1)     # two blocks of two
    >>> q, blocks = torch.zeros(2, 1, 1), torch.tensor([1], dtype=torch.int32)
    >>> said = {"num_keys": 2, "is_causal": True, "scale": 1.0, "blocks": blocks, "block_size": 2}
    >>> prefill_attention(q, values, values, **said).flatten()   # 1 alone, then the mean of 1 and 3
    tensor([1., 2.])
    """
    num_held = len(k) if blocks is None else len(blocks) * block_size
    if num_keys > num_held or (is_causal and num_keys < len(q)):
        raise ConfigError(
            f"{len(q)} queries over {num_keys} keys, of which {num_held} are there. All keys must be, and if "
            "the attention is causal, that of each query."
        )
    # A copy of a pool would cost more than all.
    is_whole = blocks is None or (k.is_contiguous() and v.is_contiguous())
    kernels = kernels_over(q, k, v, scales)
    if not num_keys or not is_whole or kernels is None:
        said: Any = {"is_causal": is_causal, "scale": scale, "window": window, "soft_cap": soft_cap}
        return prefill_attention_reference(
            q, k, v, num_keys=num_keys, blocks=blocks, block_size=block_size, scales=scales, **said
        )
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    if blocks is not None:
        blocks = blocks.contiguous()
    num_queries, num_heads, head_dim = q.shape
    if q.is_cuda:
        rule: Any = {"is_causal": is_causal, "scale": scale, "window": window, "soft_cap": soft_cap}
        rule |= {"num_keys": num_keys, "blocks": blocks, "block_size": block_size}
        return cast(Tensor, kernels.prefill_attention(q, k, v, **rule))
    out = q.new_empty(num_queries, num_heads, v.shape[-1])
    kernels.prefill_attention(
        q.dtype is torch.bfloat16,
        num_queries,
        num_keys,
        num_heads,
        k.shape[1],
        head_dim,
        v.shape[-1],
        q.data_ptr(),
        k.data_ptr(),
        v.data_ptr(),
        *addresses_of(scales),
        0 if blocks is None else blocks.data_ptr(),
        block_size,
        is_causal,
        -1 if window is None else window,
        scale,
        soft_cap or 0.0,
        out.data_ptr(),
        torch.get_num_threads(),
    )
    return out


def can_prefill(q: Tensor, k: Tensor, v: Tensor, scales: Scales | None = None) -> bool:
    """Whether there is a kernel for these, and not only its twin."""
    return kernels_over(q, k, v, scales) is not None


def prefill_attention_reference(
    q: Float[Tensor, "T N H"],
    k: Num[Tensor, "tokens K H"],
    v: Num[Tensor, "tokens K Hv"],
    *,
    num_keys: int,
    is_causal: bool,
    scale: float,
    window: int | None = None,
    soft_cap: float | None = None,
    blocks: Int32[Tensor, " blocks"] | None = None,
    block_size: int = 1,
    scales: Scales | None = None,
) -> Float[Tensor, "T N Hv"]:
    """The same, the keys gathered, widened and attended to in fp32, all scores at once."""
    tokens = torch.arange(num_keys, device=k.device)
    if blocks is not None:
        tokens = blocks.long()[tokens // block_size] * block_size + tokens % block_size
    seen = (x[None] for x in widened(k, v, tokens, scales))
    said: Any = {"is_causal": is_causal, "scale": scale, "window": window, "soft_cap": soft_cap}
    return rows_attention_reference(q[None].float(), *seen, **said)[0].to(q.dtype)
