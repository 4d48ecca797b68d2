"""Attention over packed sequences on the CPU: no padding, no (T, S) matrix of all tokens.

Each sequence is cut into blocks of queries; a block's scores are one matrix product, exact softmax, one more
product. The queries that share a key head are rows of one product, so no key is repeated, and a block never touches
keys that none of its queries sees. On processors without matrix tiles this runs the bf16 products at full speed:
faster than PyTorch's fused kernel from 512 tokens on (`bench/attention.py`); what that costs in precision, a score
being rounded to bf16 once, `docs/decisions/0004` says. The loop is hidden from `torch.compile` as one operator: a
compiled model has no graph break and does not recompile when the lengths change. Where nobody asks for a gradient,
`prefill.py` takes each sequence, if there is a kernel for this processor, precision and width. On a GPU `flash.py`
takes all sequences at once; what it cannot, and a bias on the scores, goes through `rows.py` sequence by sequence.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from malmoi.nn.kernels.flash import can_flash, flash_attention
from malmoi.nn.kernels.prefill import can_prefill, prefill_attention
from malmoi.nn.kernels.rows import rows_attention
from malmoi.nn.kernels.visibility import visibility

QUERIES_PER_BLOCK = (
    256  # near the best at 512 tokens, where training runs; docs/lab-log.md, section 1, has the table
)


def ragged_attention(
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
    """The fast twin of `reference.ragged_attention_reference`; no fewer keys than queries in a sequence if causal."""
    if q.device.type in ("cpu", "meta") and bias is None:
        if can_prefill(q, k, v):
            return _prefill(q, k, v, query_offsets, key_offsets, is_causal, scale, window, soft_cap)
        # In this order: the compiler cannot trace the second question.
        if not torch.compiler.is_compiling() and torch.is_inference_mode_enabled():
            # Without the operator around it: calling the first one loads torch._dynamo, which takes seconds.
            return attend_ragged(q, k, v, query_offsets, key_offsets, is_causal, scale, window, soft_cap)
        out: Tensor = _forward(q, k, v, query_offsets, key_offsets, is_causal, scale, window, soft_cap)
        return out
    if bias is None and can_flash(q, k, v, window=window, soft_cap=soft_cap):
        return flash_attention(q, k, v, query_offsets, key_offsets, is_causal=is_causal, scale=scale)
    return torch.cat(
        [
            rows_attention(
                q[:, queries],
                k[:, keys],
                v[:, keys],
                is_causal=is_causal,
                scale=scale,
                window=window,
                soft_cap=soft_cap,
                bias=bias,
            )
            for queries, keys in _sequences(query_offsets, key_offsets)
        ],
        dim=1,
    )


def _sequences(query_offsets: Tensor, key_offsets: Tensor) -> list[tuple[slice, slice]]:
    pairs = zip(pairwise(query_offsets.tolist()), pairwise(key_offsets.tolist()), strict=True)
    return [(slice(*queries), slice(*keys)) for queries, keys in pairs]


def _prefill(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    is_causal: bool,
    scale: float,
    window: int | None,
    soft_cap: float | None,
) -> Tensor:
    """`attend_ragged` in the kernel, a sequence at a time."""
    said: Any = {"is_causal": is_causal, "scale": scale, "window": window, "soft_cap": soft_cap}
    outs = [
        prefill_attention(q[0, queries], k[0, keys], v[0, keys], num_keys=keys.stop - keys.start, **said)
        for queries, keys in _sequences(query_offsets, key_offsets)
    ]
    return torch.cat(outs)[None]


def _blocks(
    query_offsets: Tensor, key_offsets: Tensor, is_causal: bool, window: int | None, device: torch.device
) -> Iterator[tuple[slice, slice, Tensor | None]]:
    """Each block of queries, the keys that any of them may see, and which of the last of these are hidden from which.

    Places in the rows of all tokens; no block has queries of two sequences.
    """
    for queries, keys in _sequences(query_offsets, key_offsets):
        ahead = keys.stop - queries.stop  # a query's own key lies so many places further
        for start in range(queries.start, queries.stop, QUERIES_PER_BLOCK):
            block = slice(start, min(start + QUERIES_PER_BLOCK, queries.stop))
            first, last = keys.start, keys.stop
            if is_causal:
                last = ahead + block.stop
            if window is not None:
                first = max(first, ahead + block.start - window + 1)
                last = min(last, ahead + block.stop - 1 + window)
            hidden = _hidden(block, slice(first, last), ahead, is_causal, window, device)
            yield block, slice(first, last), hidden


def _grouped(x_TNH: Tensor, num_kv_heads: int) -> Tensor:
    """(K, G, T, H): the queries of one key head side by side, as a view; flat, they are rows of one product."""
    return torch.unflatten(x_TNH, 1, (num_kv_heads, -1)).permute(1, 2, 0, 3)


def _scores(q_KRH: Tensor, k_KSH: Tensor, scale: float, soft_cap: float | None) -> Tensor:
    """One block's scores (K, G * T, S), bent under the cap if there is one: that in fp32, or each step would round."""
    if soft_cap is None:
        return torch.bmm(q_KRH * scale, k_KSH.mT)
    return torch.bmm(q_KRH, k_KSH.mT).float().mul_(scale / soft_cap).tanh_().mul_(soft_cap)


def _weights(scores_KRS: Tensor, hidden_TS: Tensor | None) -> Tensor:
    """One block's attention weights; mutates the scores."""
    if hidden_TS is not None:
        num_queries, num_last = hidden_TS.shape
        scores_KGTS = torch.unflatten(scores_KRS, 1, (-1, num_queries))
        scores_KGTS[..., -num_last:].masked_fill_(hidden_TS, float("-inf"))
    return scores_KRS.softmax(dim=-1)


def _hidden(
    block: slice, keys: slice, ahead: int, is_causal: bool, window: int | None, device: torch.device
) -> Tensor | None:
    """Which of a block's last keys are hidden from which of its queries; None if none is."""
    num_queries, num_keys = block.stop - block.start, keys.stop - keys.start
    if window is None:
        if num_queries == 1 or not is_causal:
            return None
        num_keys = (
            num_queries  # a block ends at its last query's own key: all that is hidden lies in that square
        )
    num_ahead = keys.stop - ahead - block.stop
    return ~visibility(
        num_queries, num_keys, is_causal=is_causal, window=window, device=device, num_ahead=num_ahead
    )


def attend_ragged(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    is_causal: bool,
    scale: float,
    window: int | None,
    soft_cap: float | None,
) -> Tensor:
    """The loop itself, block by block."""
    out = q.new_empty(*q.shape[:3], v.shape[-1])
    for queries, keys, hidden in _blocks(query_offsets, key_offsets, is_causal, window, q.device):
        q_KRH = _grouped(q[0, queries], k.shape[2]).flatten(1, 2)
        k_KSH, v_KSH = (x[0, keys].transpose(0, 1) for x in (k, v))
        weights = _weights(_scores(q_KRH, k_KSH, scale, soft_cap), hidden).to(v.dtype)
        out_KGTH = _grouped(out[0, queries], k.shape[2])
        out_KGTH.copy_(torch.bmm(weights, v_KSH).view_as(out_KGTH))
    return out


_forward = torch.library.custom_op("malmoi::ragged_attention", attend_ragged, mutates_args=())


@_forward.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    is_causal: bool,
    scale: float,
    window: int | None,
    soft_cap: float | None,
) -> Tensor:
    return q.new_empty(*q.shape[:3], v.shape[-1])


def attend_ragged_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    is_causal: bool,
    scale: float,
    window: int | None,
    soft_cap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Recomputes the weights block by block, as Dao et al. 2022 (arXiv:2205.14135, section 3.1).

    The gradients of keys and values, sums over blocks, are added up in fp32.
    """
    dq = torch.empty_like(q, memory_format=torch.contiguous_format)
    dk, dv = (torch.zeros(x.shape, dtype=torch.float32, device=x.device) for x in (k, v))
    # Through a softmax, d_scores = weights * (d_weights - sum(weights * d_weights)); that sum is grad . out.
    centre = (grad.float() * out.float()).sum(dim=-1, keepdim=True).to(q.dtype)
    for queries, keys, hidden in _blocks(query_offsets, key_offsets, is_causal, window, q.device):
        q_KRH, grad_KRH, centre_KR1 = (
            _grouped(x[0, queries], k.shape[2]).flatten(1, 2) for x in (q, grad, centre)
        )
        k_KSH, v_KSH = (x[0, keys].transpose(0, 1).contiguous() for x in (k, v))
        dk_KSH, dv_KSH = (x[0, keys].transpose(0, 1) for x in (dk, dv))
        scores = _scores(q_KRH, k_KSH, scale, soft_cap)
        slope = None if soft_cap is None else 1 - (scores / soft_cap).square()  # of the cap, where it bent
        weights = _weights(scores, hidden).to(v.dtype)
        dv_KSH += torch.bmm(weights.mT, grad_KRH)
        d_scores = torch.bmm(grad_KRH, v_KSH.mT).sub_(centre_KR1).mul_(weights).mul_(scale)
        if slope is not None:
            d_scores *= slope
        dq_KGTH = _grouped(dq[0, queries], k.shape[2])
        dq_KGTH.copy_(torch.bmm(d_scores, k_KSH).view_as(dq_KGTH))
        dk_KSH += torch.bmm(d_scores.mT, q_KRH)
    return dq, dk.to(k.dtype), dv.to(v.dtype)


_backward = torch.library.custom_op(
    "malmoi::ragged_attention_backward", attend_ragged_backward, mutates_args=()
)


@_backward.register_fake
def _(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    is_causal: bool,
    scale: float,
    window: int | None,
    soft_cap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    return dq, dk, dv


def _save_for_backward(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    q, k, v, query_offsets, key_offsets, *ctx.rule = inputs
    ctx.save_for_backward(q, k, v, output, query_offsets, key_offsets)


def _autograd_backward(ctx, grad):  # type: ignore[no-untyped-def]
    return *_backward(grad, *ctx.saved_tensors, *ctx.rule), None, None, None, None, None, None


_forward.register_autograd(_autograd_backward, setup_context=_save_for_backward)
