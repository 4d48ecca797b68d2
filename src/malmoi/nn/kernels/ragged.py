"""Attention over packed sequences on the CPU: no padding, no (T, S) matrix of all tokens.

Each sequence is cut into blocks of queries; a block's scores are one matrix product, exact softmax, one more
product. The queries that share a key head are rows of one product, so no key is repeated, and a block never touches
keys that none of its queries sees. On processors without matrix tiles this runs the bf16 products at full speed:
faster than PyTorch's fused kernel from 512 tokens on (`bench/attention.py`); what that costs in precision, a score
being rounded to bf16 once, `docs/decisions/0004` says. The loop is hidden from `torch.compile`
as one operator: a compiled model has no graph break and does not recompile when the lengths change. In inference
mode `prefill.py` takes each sequence, if there is a kernel for this processor, precision and width. On other
devices, and with a bias on the scores, each sequence goes through `rows.py`.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

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
        # In this order: the compiler cannot trace the second question.
        if not torch.compiler.is_compiling() and torch.is_inference_mode_enabled():
            if can_prefill(q, k, v):
                return _prefill(q, k, v, query_offsets, key_offsets, is_causal, scale, window, soft_cap)
            # Without the operator around it: calling the first one loads torch._dynamo, which takes seconds.
            return attend_ragged(q, k, v, query_offsets, key_offsets, is_causal, scale, window, soft_cap)
        out: Tensor = _forward(q, k, v, query_offsets, key_offsets, is_causal, scale, window, soft_cap)
        return out
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
    num_queries: int, num_keys: int, is_causal: bool, window: int | None
) -> list[tuple[slice, slice]]:
    """The queries of each block, and the keys that any of them may see."""
    ahead = num_keys - num_queries  # a query's own key lies so many places further
    blocks = []
    for start in range(0, num_queries, QUERIES_PER_BLOCK):
        end = min(start + QUERIES_PER_BLOCK, num_queries)
        first, last = 0, num_keys
        if is_causal:
            last = ahead + end
        if window is not None:
            first = max(0, ahead + start - window + 1)
            last = min(last, ahead + end - 1 + window)
        blocks.append((slice(start, end), slice(first, last)))
    return blocks


def _grouped(x_TNH: Tensor, num_kv_heads: int) -> Tensor:
    """(K, G, T, H): the queries of one key head side by side, as a view."""
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
    num_kv_heads = k.shape[2]
    out = q.new_empty(*q.shape[:3], v.shape[-1])
    for queries, keys in _sequences(query_offsets, key_offsets):
        q_KGTH, out_KGTH = _grouped(q[0, queries], num_kv_heads), _grouped(out[0, queries], num_kv_heads)
        k_KSH, v_KSH = k[0, keys].transpose(0, 1), v[0, keys].transpose(0, 1)
        ahead = k_KSH.shape[1] - q_KGTH.shape[2]
        for block, seen in _blocks(q_KGTH.shape[2], k_KSH.shape[1], is_causal, window):
            hidden = _hidden(block, seen, ahead, is_causal, window, q.device)
            q_KRH = q_KGTH[:, :, block].flatten(1, 2)
            weights = _weights(_scores(q_KRH, k_KSH[:, seen], scale, soft_cap), hidden).to(v.dtype)
            out_KRH = torch.bmm(weights, v_KSH[:, seen])
            out_KGTH[:, :, block] = torch.unflatten(out_KRH, 1, (q_KGTH.shape[1], -1))
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
    num_kv_heads = k.shape[2]
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    # Through a softmax, d_scores = weights * (d_weights - sum(weights * d_weights)); that sum is grad . out.
    centre = (grad.float() * out.float()).sum(dim=-1, keepdim=True).to(q.dtype)
    for queries, keys in _sequences(query_offsets, key_offsets):
        q_KGTH, grad_KGTH, centre_KGT1, dq_KGTH = (
            _grouped(x[0, queries], num_kv_heads) for x in (q, grad, centre, dq)
        )
        k_KSH, v_KSH = (x[0, keys].transpose(0, 1).contiguous() for x in (k, v))
        dk_KSH, dv_KSH = (torch.zeros_like(x, dtype=torch.float32) for x in (k_KSH, v_KSH))
        ahead = k_KSH.shape[1] - q_KGTH.shape[2]
        for block, seen in _blocks(q_KGTH.shape[2], k_KSH.shape[1], is_causal, window):
            q_KRH, grad_KRH, centre_KR1 = (
                x[:, :, block].flatten(1, 2) for x in (q_KGTH, grad_KGTH, centre_KGT1)
            )
            hidden = _hidden(block, seen, ahead, is_causal, window, q.device)
            scores = _scores(q_KRH, k_KSH[:, seen], scale, soft_cap)
            slope = (
                None if soft_cap is None else 1 - (scores / soft_cap).square()
            )  # of the cap, where it bent
            weights = _weights(scores, hidden).to(v.dtype)
            dv_KSH[:, seen] += torch.bmm(weights.mT, grad_KRH)
            d_weights = torch.bmm(grad_KRH, v_KSH[:, seen].mT)
            d_scores = d_weights.sub_(centre_KR1).mul_(weights).mul_(scale)
            if slope is not None:
                d_scores *= slope
            dq_KRH = torch.bmm(d_scores, k_KSH[:, seen])
            dq_KGTH[:, :, block] = torch.unflatten(dq_KRH, 1, (q_KGTH.shape[1], -1))
            dk_KSH[:, seen] += torch.bmm(d_scores.mT, q_KRH)
        dk[0, keys] = dk_KSH.transpose(0, 1).to(k.dtype)
        dv[0, keys] = dv_KSH.transpose(0, 1).to(v.dtype)
    return dq, dk, dv


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
