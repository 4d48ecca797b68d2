"""Attention over packed sequences on the CPU: no padding, no (T, S) matrix of all tokens.

Each sequence is cut into blocks of queries; a block's scores are one matrix product, exact softmax, one more
product, and a causal block never touches the keys after it. On processors without matrix tiles this runs the
bf16 products at full speed: faster than PyTorch's fused kernel from 512 tokens on (`bench/attention.py`). The loop
is hidden from `torch.compile` as one operator: a compiled model has no graph break and does not recompile when
the lengths change. On other devices each sequence goes through `rows.py`.
"""

from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from malmoi.nn.kernels.rows import causal_mask, repeat_heads, rows_attention

QUERIES_PER_BLOCK = 256  # near the best at 512 tokens, where training runs; docs/lab-log.md, section 1, has the table


def ragged_attention(
    q: Float[Tensor, "1 T N H"],
    k: Float[Tensor, "1 S K H"],
    v: Float[Tensor, "1 S K H"],
    query_offsets: Int[Tensor, " offsets"],
    key_offsets: Int[Tensor, " offsets"],
    *,
    is_causal: bool,
    scale: float,
) -> Float[Tensor, "1 T N H"]:
    """The fast twin of `reference.ragged_attention_reference`; no fewer keys than queries in a sequence if causal."""
    if q.device.type == "cpu":
        k, v = repeat_heads(k, q.shape[2]), repeat_heads(v, q.shape[2])
        # In this order: the compiler cannot trace the second question.
        if not torch.compiler.is_compiling() and torch.is_inference_mode_enabled():
            # Without the operator around it: calling the first one loads torch._dynamo, which takes seconds.
            return _attend(q, k, v, query_offsets, key_offsets, is_causal, scale)
        out: Tensor = _forward(q, k, v, query_offsets, key_offsets, is_causal, scale)
        return out
    return torch.cat(
        [
            rows_attention(q[:, queries], k[:, keys], v[:, keys], is_causal=is_causal, scale=scale)
            for queries, keys in _sequences(query_offsets, key_offsets)
        ],
        dim=1,
    )


def _sequences(query_offsets: Tensor, key_offsets: Tensor) -> list[tuple[slice, slice]]:
    pairs = zip(pairwise(query_offsets.tolist()), pairwise(key_offsets.tolist()), strict=True)
    return [(slice(*queries), slice(*keys)) for queries, keys in pairs]


def _blocks(num_queries: int, num_keys: int, is_causal: bool) -> list[tuple[slice, int]]:
    """The queries of each block, and how many keys its last query may see."""
    starts = range(0, num_queries, QUERIES_PER_BLOCK)
    ends = [min(start + QUERIES_PER_BLOCK, num_queries) for start in starts]
    return [
        (slice(start, end), num_keys - num_queries + end if is_causal else num_keys)
        for start, end in zip(starts, ends, strict=True)
    ]


def _weights(q_NTH: Tensor, k_NHS: Tensor, is_causal: bool, scale: float) -> Tensor:
    """One block's attention weights (N, T, S); the block's last query stands at its last key."""
    scores_NTS = torch.bmm(q_NTH * scale, k_NHS)
    t, s = scores_NTS.shape[1:]
    if is_causal and t > 1:
        scores_NTS[:, :, s - t :].masked_fill_(~causal_mask(t, t, scores_NTS.device), float("-inf"))
    return scores_NTS.softmax(dim=-1)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, query_offsets: Tensor, key_offsets: Tensor, is_causal: bool, scale: float
) -> Tensor:
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    for queries, keys in _sequences(query_offsets, key_offsets):
        q_NTH, k_NSH, v_NSH, out_NTH = (
            x.transpose(0, 1) for x in (q[0, queries], k[0, keys], v[0, keys], out[0, queries])
        )
        for block, visible in _blocks(q_NTH.shape[1], k_NSH.shape[1], is_causal):
            weights = _weights(q_NTH[:, block], k_NSH[:, :visible].mT, is_causal, scale)
            out_NTH[:, block] = torch.bmm(weights, v_NSH[:, :visible])
    return out


_forward = torch.library.custom_op("malmoi::ragged_attention", _attend, mutates_args=())


@_forward.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, query_offsets: Tensor, key_offsets: Tensor, is_causal: bool, scale: float
) -> Tensor:
    return torch.empty_like(q, memory_format=torch.contiguous_format)


@torch.library.custom_op("malmoi::ragged_attention_backward", mutates_args=())
def _backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    is_causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Recomputes the weights block by block, as Dao et al. 2022 (arXiv:2205.14135, section 3.1).

    The gradients of keys and values, sums over blocks, are added up in fp32.
    """
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    # Through a softmax, d_scores = weights * (d_weights - sum(weights * d_weights)); that sum is grad . out.
    centre = (grad.float() * out.float()).sum(dim=-1, keepdim=True).to(q.dtype)
    for queries, keys in _sequences(query_offsets, key_offsets):
        heads_first = (x.transpose(0, 1) for x in (q[0, queries], k[0, keys], v[0, keys], grad[0, queries]))
        q_NTH, k_NSH, v_NSH, grad_NTH = (x.contiguous() for x in heads_first)
        centre_NT1, dq_NTH = centre[0, queries].transpose(0, 1), dq[0, queries].transpose(0, 1)
        dk_NSH, dv_NSH = (torch.zeros(x.shape, dtype=torch.float32) for x in (k_NSH, v_NSH))
        for block, visible in _blocks(q_NTH.shape[1], k_NSH.shape[1], is_causal):
            weights = _weights(q_NTH[:, block], k_NSH[:, :visible].mT, is_causal, scale)
            dv_NSH[:, :visible] += torch.bmm(weights.mT, grad_NTH[:, block])
            d_weights = torch.bmm(grad_NTH[:, block], v_NSH[:, :visible].mT)
            d_scores = d_weights.sub_(centre_NT1[:, block]).mul_(weights).mul_(scale)
            dq_NTH[:, block] = torch.bmm(d_scores, k_NSH[:, :visible])
            dk_NSH[:, :visible] += torch.bmm(d_scores.mT, q_NTH[:, block])
        dk[0, keys] = dk_NSH.transpose(0, 1).to(k.dtype)
        dv[0, keys] = dv_NSH.transpose(0, 1).to(v.dtype)
    return dq, dk, dv


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
) -> tuple[Tensor, Tensor, Tensor]:
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    return dq, dk, dv


def _save_for_backward(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    q, k, v, query_offsets, key_offsets, ctx.is_causal, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, output, query_offsets, key_offsets)


def _autograd_backward(ctx, grad):  # type: ignore[no-untyped-def]
    return *_backward(grad, *ctx.saved_tensors, ctx.is_causal, ctx.scale), None, None, None, None


_forward.register_autograd(_autograd_backward, setup_context=_save_for_backward)
