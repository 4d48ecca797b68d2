"""Cross-entropy over a large vocabulary without ever holding all its logits; the balance of sparse experts.

The last step of a training forward: `model.hidden(...)` and the head's weight come in, one number goes out.
Read next: `loop.py`, which divides it by the number of targets.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from malmoi.core.errors import ConfigError
from malmoi.data.samples import NO_TARGET
from malmoi.nn.linear import Linear
from malmoi.nn.soft_cap import SoftCap
from malmoi.nn.transfer import send

LOGITS_PER_CHUNK = 2**23  # 1,024 rows of a vocabulary of 8,192
LOGITS_PER_CHUNK_ON_GPU = 2**27  # 0.27 GB in bf16: there a product of few rows leaves most of the chip idle
MIN_ROWS = 256  # fewer would make the products slow, at any vocabulary

ChunkLoss = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def rows_per_chunk(vocab_size: int, device_type: str = "cpu") -> int:
    """How many tokens' logits are computed at a time; on a GPU a power of two, which divides most batches evenly.

    >>> rows_per_chunk(8192), rows_per_chunk(128_000), rows_per_chunk(128_000, "cuda")
    (1024, 256, 1024)
    """
    if device_type == "cuda":
        return max(MIN_ROWS, 1 << (LOGITS_PER_CHUNK_ON_GPU // vocab_size).bit_length() - 1)
    return max(MIN_ROWS, LOGITS_PER_CHUNK // vocab_size)


def _loss_and_gradient(logits_TV: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Summed loss of a chunk, and its gradient by the logits (softmax minus one at the target) in their precision."""
    loss, gradient = _of_logits(logits_TV.float(), targets)
    return loss, gradient.to(logits_TV.dtype)


def _capped_loss_and_gradient(logits_TV: Tensor, targets: Tensor, *, cap: float) -> tuple[Tensor, Tensor]:
    """The same where `nn.soft_cap` bends the logits, whose slope is 1 - tanh^2; in fp32 throughout."""
    bent = (logits_TV.float() / cap).tanh()
    loss, gradient = _of_logits(cap * bent, targets)
    return loss, (gradient * (1 - bent**2)).to(logits_TV.dtype)


def _of_logits(logits_TV: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    log_probabilities = F.log_softmax(logits_TV, dim=-1)
    is_target = (targets != NO_TARGET)[:, None]
    ids = targets.clamp(min=0)[:, None]
    loss = -(log_probabilities.gather(1, ids) * is_target).sum()
    is_answer = torch.arange(logits_TV.shape[1], device=ids.device)[None] == ids
    return loss, log_probabilities.exp_().sub_(is_answer.float()).mul_(is_target)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Computes the gradients on the way forward, chunk by chunk: the logits of one chunk are alive at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_TD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        targets: Tensor,
        chunk_loss: ChunkLoss,
    ) -> Tensor:
        weight = weight_VD.to(hidden_TD.dtype)
        bias = None if bias_V is None else bias_V.to(hidden_TD.dtype)
        d_hidden, d_weight = torch.empty_like(hidden_TD), torch.zeros_like(weight_VD, dtype=torch.float32)
        d_bias = None if bias_V is None else torch.zeros_like(bias_V, dtype=torch.float32)
        total = torch.zeros((), dtype=torch.float32, device=hidden_TD.device)
        num_rows = rows_per_chunk(len(weight), hidden_TD.device.type)
        for start in range(0, len(hidden_TD), num_rows):
            rows = slice(start, start + num_rows)
            loss, d_logits = chunk_loss(F.linear(hidden_TD[rows], weight, bias), targets[rows])
            total += loss
            d_hidden[rows] = d_logits @ weight
            d_weight += d_logits.T @ hidden_TD[rows]
            if d_bias is not None:
                d_bias += d_logits.float().sum(dim=0)
        ctx.save_for_backward(d_hidden, d_weight.to(weight_VD.dtype), d_bias)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None]:
        d_hidden, d_weight, d_bias = ctx.saved_tensors
        return d_hidden * grad, d_weight * grad, None if d_bias is None else d_bias * grad, None, None


class ChunkedCrossEntropy:
    """`loss(hidden, weight, targets)` -> the summed cross-entropy of `hidden @ weight^T + bias` in nats.

    Linear cross-entropy in chunks, with the gradients taken on the way forward, as in Liger (Hsu et al. 2024,
    arXiv:2410.10989, section 3.2). Rows whose target is -100 count nothing. With a `cap`, the logits are bent as
    `nn.soft_cap.SoftCap` bends them.

    The logits that are alive at a time are one chunk's, whatever T is: for T = 8,192 and V = 128,000 that is 256
    rows, 0.13 GB in fp32, where the plain loss holds all rows several times, 4.2 GB each.

    >>> hidden, weight = torch.zeros(1, 2, 4), torch.zeros(8, 4)
    >>> ChunkedCrossEntropy()(hidden, weight, torch.tensor([[5, -100]]))     # one target of 8 equals: ln 8
    tensor(2.0794)
    """

    def __init__(self, *, is_compiled: bool = False, cap: float | None = None) -> None:
        loss = _loss_and_gradient if cap is None else partial(_capped_loss_and_gradient, cap=cap)
        self._chunk_loss: ChunkLoss = torch.compile(loss) if is_compiled else loss

    def __call__(
        self,
        hidden: Float[Tensor, "1 T D"],
        weight: Float[Tensor, "V D"],
        targets: Int[Tensor, "1 T"],
        *,
        bias: Float[Tensor, " V"] | None = None,
    ) -> Float[Tensor, ""]:
        loss: Tensor = _ChunkedCrossEntropy.apply(hidden[0], weight, bias, targets[0], self._chunk_loss)  # type: ignore[no-untyped-call]
        return loss


def matrix_of(head: nn.Module) -> tuple[Linear, float | None]:
    """The matrix of a head, and the cap on its logits if it has one (Gemma 2). Raises ConfigError for another head.

    >>> matrix_of(nn.Sequential(Linear(8, 64, bias=False), SoftCap(30.0)))
    (Linear(in_features=8, out_features=64, bias=False), 30.0)
    """
    match [*head] if isinstance(head, nn.Sequential) else [head]:
        case [Linear() as matrix]:
            return matrix, None
        case [Linear() as matrix, SoftCap() as bend]:
            return matrix, bend.cap
    raise ConfigError(
        f"the head of this model is a {type(head).__name__}, but the chunked loss knows one matrix, with a cap on its "
        "logits or without. Train a model with such a head."
    )


def head_loss(
    head: nn.Module, *, is_compiled: bool
) -> Callable[[Float[Tensor, "1 T D"], Int[Tensor, "1 T"]], Float[Tensor, ""]]:
    """A function from states and targets to the summed loss, for a head that `matrix_of` knows; raises as it does."""
    matrix, cap = matrix_of(head)
    chunked = ChunkedCrossEntropy(is_compiled=is_compiled, cap=cap)
    return lambda states, targets: chunked(
        states, matrix.weight, send(targets, states.device), bias=matrix.bias
    )


def load_balancing_loss(
    router_logits: Sequence[Float[Tensor, "tokens E"]],
    *,
    num_experts: int,
    top_k: int,
    load: Float[Tensor, " E"] | None = None,
) -> Float[Tensor, ""]:
    """How unequally tokens use experts: E * sum over experts of (share of tokens) * (mean probability).

    Fedus et al. 2021, arXiv:2101.03961, section 2.2, equations 4 to 6. Our difference is Mixtral's: a token counts
    once for each of its `top_k` experts, and the means run over the tokens of all layers together. `top_k` where all
    experts are used alike, up to `num_experts` where one gets everything. `router_logits` are those of
    `Output.router_logits`, or of `Context.router_logits` after `model.hidden`. `load` is how often each expert was
    chosen, where that is not by the likeliest `top_k` (`nn.moe.GroupLimit`).

    >>> alike, one = torch.zeros(3, 4), torch.tensor([[99.0, 0.0, 0.0, 0.0]])
    >>> load_balancing_loss([alike], num_experts=4, top_k=1), load_balancing_loss([one], num_experts=4, top_k=1)
    (tensor(1.), tensor(4.))
    """
    probabilities = torch.cat([logits.float() for logits in router_logits]).softmax(dim=-1)
    if load is None:
        chosen = probabilities.topk(top_k, dim=-1).indices.flatten()
        load = torch.bincount(chosen, minlength=num_experts).float()
    return num_experts * (load / len(probabilities) * probabilities.mean(dim=0)).sum()
