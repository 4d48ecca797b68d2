"""Attention over rows of one length: PyTorch's fused kernel, told where causality ends.

Place in the flow: `attend` calls it for `Rows`. Read next: `ragged.py`, for packed sequences.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def causal_mask(num_queries: int, num_keys: int, device: torch.device) -> Bool[Tensor, "T S"]:
    """True where query t may see key s, the last query standing at the last key.

    >>> causal_mask(2, 3, torch.device("cpu")).int()
    tensor([[1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    """
    return torch.ones(num_queries, num_keys, dtype=torch.bool, device=device).tril(
        diagonal=num_keys - num_queries
    )


def repeat_heads(x: Float[Tensor, "B S K H"], num_heads: int) -> Float[Tensor, "B S N H"]:
    """Each key head repeated for the queries that share it.

    >>> repeat_heads(torch.tensor([[[[5.0], [6.0]]]]), num_heads=4).flatten()
    tensor([5., 5., 6., 6.])
    """
    return x if x.shape[2] == num_heads else x.repeat_interleave(num_heads // x.shape[2], dim=2)


def rows_attention(
    q: Float[Tensor, "B T N H"],
    k: Float[Tensor, "B S K H"],
    v: Float[Tensor, "B S K H"],
    *,
    is_causal: bool,
    scale: float,
) -> Float[Tensor, "B T N H"]:
    """The fused twin of `reference.rows_attention_reference`; at least as many keys as queries if causal."""
    num_queries, num_keys, num_heads = q.shape[1], k.shape[1], q.shape[2]
    k, v = repeat_heads(k, num_heads), repeat_heads(v, num_heads)
    mask = None
    if is_causal and num_queries != num_keys:
        # PyTorch aligns its own causality to the first key; with cached keys the queries stand at the end.
        mask = causal_mask(num_queries, num_keys, q.device) if num_queries > 1 else None
        is_causal = False
    out_BNTH = F.scaled_dot_product_attention(
        q.transpose(1, 2),
        k.transpose(1, 2),
        v.transpose(1, 2),
        attn_mask=mask,
        is_causal=is_causal,
        scale=scale,
    )
    return out_BNTH.transpose(1, 2)
