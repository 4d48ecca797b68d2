"""Flash attention over packed sequences is the reference; without a GPU, a stand-in is in place of PyTorch's kernel."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from malmoi.nn.kernels import flash
from malmoi.nn.kernels.flash import can_flash, flash_attention
from malmoi.nn.kernels.reference import ragged_attention_reference
from malmoi.nn.kernels.visibility import visibility

HAS_GPU = torch.cuda.is_available()
DEVICE, DTYPE, TOLERANCE = ("cuda", torch.bfloat16, 2e-2) if HAS_GPU else ("cpu", torch.float32, 1e-5)
LENGTHS = [([5, 1, 9], [5, 1, 9]), ([2, 3], [6, 3]), ([7], [7]), ([4, 0, 3], [4, 0, 3])]


def parts(
    q: Tensor,
    k: Tensor,
    queries: Tensor,
    keys: Tensor,
    longest: tuple[int, int],
    is_causal: bool,
    scale: float,
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Each sequence's queries, its keys, and the scores of all heads."""
    assert queries.dtype == keys.dtype == torch.int32
    assert longest == (int(queries.diff().max()), int(keys.diff().max()))
    spans = zip(itertools.pairwise(queries.tolist()), itertools.pairwise(keys.tolist()), strict=True)
    for rows, columns in ((slice(*ours), slice(*theirs)) for ours, theirs in spans):
        shared = q.shape[1] // k.shape[1]
        scores = scale * torch.einsum("tnh,snh->nts", q[rows], k[columns].repeat_interleave(shared, 1))
        hidden = ~visibility(*scores.shape[1:], is_causal=is_causal, window=None, device=q.device)
        yield rows, columns, scores.masked_fill(hidden, float("-inf"))


def forward(
    q: Tensor, k: Tensor, v: Tensor, queries: Tensor, keys: Tensor, max_q: int, max_k: int, dropout: float,
    is_causal: bool, has_mask: bool, *, scale: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    """`aten::_flash_attention_forward`, by its definition."""
    assert (dropout, has_mask) == (0.0, False)
    out, log_sums, shared = torch.empty_like(q), q.new_empty(q.shape[1], len(q)), q.shape[1] // k.shape[1]
    for rows, columns, scores in parts(q, k, queries, keys, (max_q, max_k), is_causal, scale):
        log_sums[:, rows] = scores.logsumexp(-1)
        out[rows] = torch.einsum("nts,snh->tnh", scores.softmax(-1), v[columns].repeat_interleave(shared, 1))
    return out, log_sums, torch.empty(2), torch.empty(0), torch.empty(0)


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, log_sums: Tensor, queries: Tensor, keys: Tensor,
    max_q: int, max_k: int, dropout: float, is_causal: bool, state: Tensor, unused: Tensor, *, scale: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    """`aten::_flash_attention_backward`: from the weights that the logarithms of the sums give back."""
    assert dropout == 0.0
    dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
    shared = q.shape[1] // k.shape[1]
    for rows, columns, scores in parts(q, k, queries, keys, (max_q, max_k), is_causal, scale):
        weights = (scores - log_sums[:, rows, None]).exp()
        d_weights = torch.einsum("tnh,snh->nts", grad[rows], v[columns].repeat_interleave(shared, 1))
        d_scores = scale * weights * (d_weights - (grad[rows] * out[rows]).sum(-1).mT[..., None])
        dq[rows] = torch.einsum("nts,snh->tnh", d_scores, k[columns].repeat_interleave(shared, 1))
        of_heads = [
            torch.einsum("nts,tnh->snh", d_scores, q[rows]), torch.einsum("nts,tnh->snh", weights, grad[rows])
        ]  # fmt: skip
        dk[columns], dv[columns] = (x.unflatten(1, (-1, shared)).sum(2) for x in of_heads)
    return dq, dk, dv


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    if not HAS_GPU:
        monkeypatch.setattr(flash, "_of_pytorch", forward)
        monkeypatch.setattr(flash, "_of_pytorch_backward", backward)


def draw(num_tokens: int, num_heads: int) -> Tensor:
    return torch.randn(1, num_tokens, num_heads, 16).to(DEVICE, DTYPE).requires_grad_()


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_outputs_and_gradients_are_those_of_the_reference(
    lengths: tuple[list[int], list[int]], heads: tuple[int, int], is_causal: bool
) -> None:
    inputs = [draw(sum(lengths[i > 0]), heads[i > 0]) for i in range(3)]
    offsets = [torch.tensor([0, *itertools.accumulate(n)]) for n in lengths]
    rule: Any = {"is_causal": is_causal, "scale": 0.3}
    out, wanted = (
        flash_attention(*inputs, *offsets, **rule),
        ragged_attention_reference(*inputs, *offsets, **rule),
    )
    grad = torch.randn_like(wanted)
    ours, theirs = (torch.autograd.grad(x, inputs, grad) for x in (out, wanted))
    for x, y in zip([out, *ours], [wanted, *theirs], strict=True):
        assert x.dtype == y.dtype
        assert (x - y).abs().max() <= TOLERANCE * y.abs().max().clamp(min=1)


@pytest.mark.slow
def test_the_operator_keeps_the_promises_that_the_compiler_relies_on() -> None:
    """Schema, autograd registration and the fake that says shapes without computing."""
    q, k, v, offsets = draw(7, 4), draw(7, 2), draw(7, 2), torch.tensor([0, 5, 7])
    torch.library.opcheck(
        torch.ops.malmoi.flash_attention.default,
        (q, k, v, offsets, offsets, True, 0.3),
        atol=TOLERANCE,
        rtol=TOLERANCE,
    )


def test_what_it_has_no_kernel_for_is_told_before() -> None:
    x = torch.zeros(1, 3, 2, 16)
    assert not can_flash(x, x, x, window=None, soft_cap=None)  # the CPU has loops of its own


@pytest.mark.skipif(not HAS_GPU, reason="needs a GPU")
def test_bf16_on_a_gpu_has_a_kernel_but_not_with_a_window_a_cap_or_in_fp32() -> None:
    x = draw(3, 2)
    assert can_flash(x, x, x, window=None, soft_cap=None)
    assert not can_flash(x, x, x, window=2, soft_cap=None)
    assert not can_flash(x, x, x, window=None, soft_cap=50.0)
    assert not can_flash(x.float(), x.float(), x.float(), window=None, soft_cap=None)
