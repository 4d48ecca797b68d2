"""A rehearsal counts what a computation would take, without the computation."""

import torch
import torch.nn.functional as F

from malmoi.budget.rehearsal import Rehearsal


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, device="meta")


def test_what_is_freed_is_no_longer_counted_and_the_peak_stays() -> None:
    with Rehearsal() as rehearsal:
        x = meta(10)
        y = x + 1
        del x
        assert (rehearsal.num_bytes, rehearsal.peak_bytes) == (40, 80)
        del y
    assert (rehearsal.num_bytes, rehearsal.peak_bytes) == (0, 80)


def test_views_and_what_was_there_before_cost_nothing() -> None:
    x = meta(4, 4)
    with Rehearsal() as rehearsal:
        y = x.T[1:]
        x.add_(1)
    assert y.shape[0] == 3
    assert rehearsal.peak_bytes == 0


def test_what_autograd_keeps_is_counted_until_the_backward_pass() -> None:
    x = meta(10).requires_grad_()
    with Rehearsal() as rehearsal:
        loss = x.exp().sum()  # keeps the exponentials
        kept = rehearsal.num_bytes
        loss.backward()
        del loss
    assert (kept, rehearsal.num_bytes) == (44, 40)  # the loss; the gradient


def test_integers_stay_real_and_choices_are_balanced() -> None:
    with Rehearsal():
        offsets = torch.tensor([0, 3]).to("meta")
        assert offsets.tolist() == [0, 3]
        chosen = meta(4, 8).topk(2, dim=-1).indices
        assert torch.bincount(chosen.flatten(), minlength=8).tolist() == [1] * 8
        assert meta(4)[torch.tensor([1, 2])].shape == (2,)


def test_attention_takes_the_kernel_of_a_cpu() -> None:
    q = meta(1, 2, 64, 8)
    with Rehearsal() as rehearsal:
        F.scaled_dot_product_attention(q, q, q, is_causal=True, scale=1.0)
    assert rehearsal.peak_bytes < 2 * 64 * 64 * 4  # no matrix of scores
    assert rehearsal.flops == 2 * (2 * 2 * 64 * 64 * 8)


def test_a_recurrence_is_counted_as_all_of_its_steps() -> None:
    weights = [meta(12, 4), meta(12, 4), meta(12), meta(12)]
    with Rehearsal() as rehearsal, torch.no_grad():
        options = {
            "has_biases": True,
            "num_layers": 1,
            "dropout": 0.0,
            "train": False,
            "bidirectional": False,
        }
        out, end = torch.gru(meta(7, 4), torch.ones(7, dtype=torch.long), meta(1, 1, 4), weights, **options)
    assert (out.shape, end.shape) == ((7, 4), (1, 1, 4))
    assert rehearsal.flops == 7 * 2 * 2 * 12 * 4
