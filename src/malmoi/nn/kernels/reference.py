"""Attention as it is written on paper, in fp32 whatever it is given: slow, and the judge of the fast kernels.

Each function has the signature of the fast twin that `tests/nn/test_attend.py` compares it with. Read this first,
then `rows.py` and `ragged.py`.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from malmoi.nn.kernels.visibility import visibility


def rows_attention_reference(
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
    """softmax(cap(q k^T * scale) + bias) v, query t standing at the key S - T + t and seeing what it may.

    >>> q, k, v = torch.ones(1, 1, 1, 1), torch.zeros(1, 4, 1, 1), torch.arange(4.0).view(1, 4, 1, 1)
    >>> rows_attention_reference(q, k, v, is_causal=True, scale=1.0).item()   # equal scores: the mean of 0 1 2 3
    1.5
    """
    (_, t, n, _), (s, kv_heads) = q.shape, k.shape[1:3]
    q_BTKGH = torch.unflatten(q.float(), 2, (kv_heads, n // kv_heads))
    scores_BKGTS = torch.einsum("BTKGH,BSKH->BKGTS", q_BTKGH, k.float()) * scale
    if soft_cap is not None:
        scores_BKGTS = soft_cap * torch.tanh(scores_BKGTS / soft_cap)
    if bias is not None:
        scores_BKGTS = scores_BKGTS + torch.unflatten(bias(t, s), 0, (kv_heads, -1))
    is_visible = visibility(t, s, is_causal=is_causal, window=window, device=q.device)
    scores_BKGTS = scores_BKGTS.masked_fill(~is_visible, float("-inf"))
    out_BTKGH = torch.einsum("BKGTS,BSKH->BTKGH", scores_BKGTS.softmax(dim=-1), v.float())
    return out_BTKGH.flatten(2, 3).to(q.dtype)


def ragged_attention_reference(
    q: Float[Tensor, "1 T N H"],
    k: Float[Tensor, "1 S K H"],
    v: Float[Tensor, "1 S K Hv"],
    query_offsets: Int[Tensor, " offsets"],
    key_offsets: Int[Tensor, " offsets"],
    *,
    is_causal: bool,
    scale: float,
    window: int | None = None,
    soft_cap: float | None = None,
    bias: Callable[[int, int], Tensor] | None = None,
) -> Float[Tensor, "1 T N Hv"]:
    """`rows_attention_reference`, one sequence at a time."""
    spans = zip(pairwise(query_offsets.tolist()), pairwise(key_offsets.tolist()), strict=True)
    return torch.cat(
        [
            rows_attention_reference(
                q[:, a:b],
                k[:, c:d],
                v[:, c:d],
                is_causal=is_causal,
                scale=scale,
                window=window,
                soft_cap=soft_cap,
                bias=bias,
            )
            for (a, b), (c, d) in spans
        ],
        dim=1,
    )
