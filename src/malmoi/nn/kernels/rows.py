"""Attention over rows of one length: PyTorch's fused kernel, told where causality ends.

Place in the flow: `attend` calls it for `Rows`. Read next: `ragged.py`, for packed sequences.
"""

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from malmoi.nn.kernels.reference import rows_attention_reference
from malmoi.nn.kernels.visibility import sees_everything, visibility


def repeat_heads(x: Float[Tensor, "B S K H"], num_heads: int) -> Float[Tensor, "B S N H"]:
    """Each key head repeated for the queries that share it.

    >>> repeat_heads(torch.tensor([[[[5.0], [6.0]]]]), num_heads=4).flatten()
    tensor([5., 5., 6., 6.])
    """
    return x if x.shape[2] == num_heads else x.repeat_interleave(num_heads // x.shape[2], dim=2)


def rows_attention(
    q: Float[Tensor, "B T N H"],
    k: Float[Tensor, "B S K H"],
    v: Float[Tensor, "B S K Hv"],
    *,
    is_causal: bool,
    scale: float,
    window: int | None = None,
    soft_cap: float | None = None,
    bias: Callable[[int, int], Tensor] | None = None,
) -> Float[Tensor, "B T N Hv"]:
    """The fused twin of `reference.rows_attention_reference`; at least as many keys as queries if causal."""
    if soft_cap is not None:  # the fused kernel has no place for it
        return rows_attention_reference(
            q, k, v, is_causal=is_causal, scale=scale, window=window, soft_cap=soft_cap, bias=bias
        )
    num_queries, num_keys, num_heads = q.shape[1], k.shape[1], q.shape[2]
    k, v = repeat_heads(k, num_heads), repeat_heads(v, num_heads)
    # PyTorch aligns its own causality to the first key; with cached keys the queries stand at the end.
    is_plain = bias is None and (window is None or window >= num_keys) and num_queries == num_keys
    mask = None
    if not is_plain and not sees_everything(num_queries, num_keys, is_causal=is_causal, window=window):
        mask = visibility(num_queries, num_keys, is_causal=is_causal, window=window, device=q.device)
    if bias is not None:
        scores = bias(num_queries, num_keys).to(q.dtype)
        mask = (scores if mask is None else scores.masked_fill(~mask, float("-inf")))[None]
    out_BNTH = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=is_causal and is_plain,
        scale=scale,
    )
    return out_BNTH.transpose(1, 2)
