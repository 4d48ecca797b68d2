"""Attention over rows of one length: our kernel of a prompt, or PyTorch's fused one, told where causality ends.

Where `prefill.py` has a kernel and nobody asks for a gradient, each row is a sequence to it; with gradients, a bias on
the scores or on another device PyTorch's runs. Place in the flow: `attend` calls it for `Rows`. Read next: `ragged.py`,
for packed sequences.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from malmoi.nn.kernels.prefill import can_prefill, prefill_attention
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
    said: Any = {"is_causal": is_causal, "scale": scale, "window": window, "soft_cap": soft_cap}
    if bias is None and can_prefill(q, k, v) and not _is_better_fused(q, k):
        outs = [prefill_attention(*row, num_keys=k.shape[1], **said) for row in zip(q, k, v, strict=True)]
        return torch.stack(outs)
    if soft_cap is not None:  # the fused kernel has no place for it
        return rows_attention_reference(q, k, v, bias=bias, **said)
    batch, num_queries, num_heads, head_dim = q.shape
    num_keys = k.shape[1]
    # PyTorch aligns its own causality to the first key; with cached keys the queries stand at the end.
    is_plain = bias is None and (window is None or window >= num_keys) and num_queries == num_keys
    mask = None
    if not is_plain and not sees_everything(num_queries, num_keys, is_causal=is_causal, window=window):
        mask = visibility(num_queries, num_keys, is_causal=is_causal, window=window, device=q.device)
    if bias is not None:
        scores = bias(num_queries, num_keys).to(q.dtype)
        mask = (scores if mask is None else scores.masked_fill(~mask, float("-inf")))[None]
    has_own_causality = False
    if is_causal and is_plain:
        has_own_causality = True  # said this way, the compiler knows it when lengths are symbols
        k, v = repeat_heads(k, num_heads), repeat_heads(v, num_heads)
    # The queries that share a key head are rows of one product, so that no key is repeated: for a query of 32 heads
    # over 1,024 cached keys of 8, on one core, that took a fourth of the time in fp32, a thirtieth in bf16.
    num_kv_heads = k.shape[2]
    num_groups = num_heads // num_kv_heads
    q_BTKGH = q.reshape(batch, num_queries, num_kv_heads, num_groups, head_dim)
    out_BKRH = F.scaled_dot_product_attention(
        q_BTKGH.permute(0, 2, 3, 1, 4).reshape(batch, num_kv_heads, -1, head_dim),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=None if mask is None else _by_key_head(mask, num_kv_heads, num_groups),
        is_causal=has_own_causality,
        scale=scale,
    )
    out_BKGTH = out_BKRH.reshape(batch, num_kv_heads, num_groups, num_queries, -1)
    return out_BKGTH.permute(0, 3, 1, 2, 4).reshape(batch, num_queries, num_heads, -1)


def _is_better_fused(q: Tensor, k: Tensor) -> bool:
    """Whether so few queries meet a key that laying it out for them costs more than it saves: measured in fp32 only."""
    return q.dtype is torch.float32 and q.shape[1] * q.shape[2] < 4 * k.shape[2]


def _by_key_head(mask: Tensor, num_kv_heads: int, num_groups: int) -> Tensor:
    """A mask of queries, or of heads and queries, for queries that lie side by side under their key head."""
    num_queries, num_keys = mask.shape[-2:]
    if mask.ndim == 2:
        return mask.expand(num_groups, -1, -1).reshape(num_groups * num_queries, num_keys)
    return mask.reshape(1, num_kv_heads, num_groups * num_queries, num_keys)
