"""Attention over packed sequences on a GPU: PyTorch's flash attention, told where each sequence begins and ends.

One kernel for all sequences and heads, forward and backward, where `ragged.py` would start one a sequence. Dao 2023
(arXiv:2307.08691); packed lengths are the library's own. The offsets stay on the CPU, as everywhere here, so asking
for the longest sequence waits for nobody; they are copied for the kernel. `torch.compile` sees one operator, as it
does with `ragged.py`, which asks `can_flash`. Read next: `reference.py`, which says what is computed.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_of_pytorch = torch.ops.aten._flash_attention_forward
_of_pytorch_backward = torch.ops.aten._flash_attention_backward


def can_flash(q: Tensor, k: Tensor, v: Tensor, *, window: int | None, soft_cap: float | None) -> bool:
    """Whether there is such a kernel: bf16 on an NVIDIA GPU from Ampere on, every key in sight, heads of 8 n <= 256."""
    head_dim = q.shape[-1]
    is_plain = window is None and soft_cap is None
    has_form = v.shape[-1] == head_dim == k.shape[-1] and head_dim % 8 == 0 and head_dim <= 256
    if not (q.is_cuda and torch.version.hip is None and q.dtype is torch.bfloat16 and is_plain and has_form):
        return False
    # The compiler cannot trace the question, and itself wants such a GPU for bf16.
    return torch.compiler.is_compiling() or torch.cuda.get_device_capability(q.device) >= (8, 0)


def flash_attention(
    q: Float[Tensor, "1 T N H"],
    k: Float[Tensor, "1 S K H"],
    v: Float[Tensor, "1 S K H"],
    query_offsets: Int[Tensor, " offsets"],
    key_offsets: Int[Tensor, " offsets"],
    *,
    is_causal: bool,
    scale: float,
) -> Float[Tensor, "1 T N H"]:
    """The same as `ragged.ragged_attention`, of what `can_flash` lets through."""
    out: Tensor = _forward(q, k, v, query_offsets, key_offsets, is_causal, scale)[0]
    return out


def _spans(
    query_offsets: Tensor, key_offsets: Tensor, device: torch.device
) -> tuple[Tensor, Tensor, int, int]:
    """As the kernel wants them: where queries and keys begin, on the GPU, and how long the longest sequence is."""
    queries, keys = (x.to(torch.int32).to(device, non_blocking=True) for x in (query_offsets, key_offsets))
    return queries, keys, int(query_offsets.diff().max()), int(key_offsets.diff().max())


@torch.library.custom_op("malmoi::flash_attention", mutates_args=())
def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    is_causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """The values, and for each head and query the logarithm of what its softmax divides by."""
    spans = _spans(query_offsets, key_offsets, q.device)
    q_TNH, k_SKH, v_SKH = (x[0].contiguous() for x in (q, k, v))
    out, log_sums, *_ = _of_pytorch(q_TNH, k_SKH, v_SKH, *spans, 0.0, is_causal, False, scale=scale)
    return out[None], log_sums


@_forward.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    is_causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor]:
    return q.new_empty(q.shape), q.new_empty(q.shape[2], q.shape[1], dtype=torch.float32)


@torch.library.custom_op("malmoi::flash_attention_backward", mutates_args=())
def _backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    log_sums: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    is_causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    spans = _spans(query_offsets, key_offsets, q.device)
    no_dropout = torch.zeros(2, dtype=torch.uint64, device=q.device), q.new_empty(0)
    rows = [x[0].contiguous() for x in (grad, q, k, v, out)]
    dq, dk, dv = _of_pytorch_backward(*rows, log_sums, *spans, 0.0, is_causal, *no_dropout, scale=scale)
    return dq[None], dk[None], dv[None]


@_backward.register_fake
def _(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    log_sums: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    is_causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    dq, dk, dv = (x.new_empty(x.shape) for x in (q, k, v))
    return dq, dk, dv


def _save_for_backward(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    q, k, v, query_offsets, key_offsets, *ctx.rule = inputs
    ctx.save_for_backward(q, k, v, *output, query_offsets, key_offsets)


def _autograd_backward(ctx, grad, _):  # type: ignore[no-untyped-def]
    return *_backward(grad, *ctx.saved_tensors, *ctx.rule), None, None, None, None


_forward.register_autograd(_autograd_backward, setup_context=_save_for_backward)
