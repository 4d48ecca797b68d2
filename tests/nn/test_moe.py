"""Experts: the fast path is the sum on paper, a router chooses what its paper says, and nothing is lost."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from malmoi.core.errors import ConfigError
from malmoi.nn.context import Context
from malmoi.nn.kernels.experts import mix_experts, mix_experts_reference
from malmoi.nn.mlp import GatedMLP
from malmoi.nn.moe import GroupLimit, MoE, Router, SigmoidRouter, SoftmaxRouter

HIDDEN_SIZE = 8
CHOICES: dict[str, Callable[[], Tensor]] = {
    "as they fall": lambda: torch.rand(11, 6).topk(2).indices,
    "one choice": lambda: torch.rand(11, 6).topk(1).indices,
    "every expert": lambda: torch.rand(11, 6).topk(6).indices,
    "experts that nobody chose": lambda: torch.tensor([[4, 1]]).repeat(11, 1),
    "a single token": lambda: torch.tensor([[5, 0, 3]]),
}


def draw_experts(num_experts: int) -> nn.ModuleList:
    return nn.ModuleList([GatedMLP(HIDDEN_SIZE, 5) for _ in range(num_experts)])


def router(kind: type[Router], **changes: Any) -> Router:
    options = {"hidden_size": HIDDEN_SIZE, "num_experts": 6, "top_k": 2, "is_normalised": True}
    return kind(**(options | changes))


@pytest.mark.parametrize("experts", CHOICES.values(), ids=CHOICES)
def test_the_fast_path_equals_every_expert_on_every_token(experts: Callable[[], Tensor]) -> None:
    networks, chosen = draw_experts(6), experts()
    x = torch.randn(len(chosen), HIDDEN_SIZE, requires_grad=True)
    weights = torch.rand(chosen.shape, requires_grad=True)
    context = Context.rows(1, 1, specs=[])
    grad = torch.randn(len(chosen), HIDDEN_SIZE)

    def outcome(mix: Callable[..., Tensor]) -> list[Tensor]:
        run = lambda expert, part: networks[expert](part[None], context)[0]  # noqa: E731
        out = mix(x, weights, chosen, num_experts=6, run=run)
        inputs = [x, weights, *networks.parameters()]
        grads = torch.autograd.grad(out, inputs, grad, allow_unused=True, materialize_grads=True)
        return [out, *grads]

    for fast, wanted in zip(outcome(mix_experts), outcome(mix_experts_reference), strict=True):
        torch.testing.assert_close(fast, wanted, rtol=0, atol=1e-5 * max(1.0, wanted.abs().max().item()))


def test_an_expert_runs_once_on_the_tokens_that_chose_it_and_not_at_all_without_any() -> None:
    calls = []
    chosen = torch.tensor([[3, 1], [0, 3], [3, 0]])

    def run(expert: int, part: Tensor) -> Tensor:
        calls.append((expert, part[:, 0].tolist()))
        return part

    x = torch.arange(3.0)[:, None]
    out = mix_experts(x, torch.full((3, 2), 0.5), chosen, num_experts=5, run=run)
    assert calls == [(0, [1.0, 2.0]), (1, [0.0]), (3, [0.0, 1.0, 2.0])]
    assert torch.equal(out, x)


def test_a_sublayer_is_its_shared_expert_and_the_weighted_sum_of_the_chosen() -> None:
    shared = GatedMLP(HIDDEN_SIZE, 7)
    moe = MoE(router=router(SoftmaxRouter), experts=list(draw_experts(6)), shared=shared)
    x, routed = torch.randn(2, 3, HIDDEN_SIZE), []
    context = Context(**(vars(Context.rows(2, 3, specs=[])) | {"router_logits": routed}))
    out = moe(x, context)
    for b in range(2):
        for t in range(3):
            token = x[b : b + 1, t : t + 1]
            logits = (moe.router.score.weight @ token.flatten()).tolist()
            best = sorted(range(6), key=lambda e: -logits[e])[:2]
            weights = torch.tensor([logits[e] for e in best]).softmax(0)
            wanted = shared(token, context) + sum(
                w * moe.experts[e](token, context) for w, e in zip(weights, best, strict=True)
            )
            torch.testing.assert_close(out[b, t], wanted.flatten(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(routed[0], x.flatten(0, 1) @ moe.router.score.weight.T)
    moe(x, Context.rows(2, 3, specs=[]))
    assert len(routed) == 1


def test_tokens_do_not_see_each_other_through_experts() -> None:
    moe = MoE(router=router(SoftmaxRouter), experts=list(draw_experts(6)))
    x = torch.randn(1, 20, HIDDEN_SIZE)
    together = moe(x, Context.rows(1, 20, specs=[]))
    alone = torch.cat([moe(x[:, t : t + 1], Context.rows(1, 1, specs=[])) for t in range(20)], dim=1)
    torch.testing.assert_close(together, alone)


def test_bf16_experts_with_the_same_choice_stay_near_fp32() -> None:
    networks, x = draw_experts(6), torch.randn(50, HIDDEN_SIZE)
    weights, chosen = torch.rand(50, 6).softmax(-1).topk(2)
    context = Context.rows(1, 1, specs=[])
    wanted = mix_experts_reference(
        x, weights, chosen, num_experts=6, run=lambda e, part: networks[e](part[None], context)[0]
    )
    networks.to(torch.bfloat16)
    run = lambda e, part: networks[e](part[None], context)[0]  # noqa: E731
    out = mix_experts(x.bfloat16(), weights, chosen, num_experts=6, run=run)
    assert out.dtype == torch.bfloat16
    assert (out - wanted).abs().max() < 0.02 * wanted.abs().max()


# --- routers -----------------------------------------------------------------------------------------------


def test_normalised_softmax_weights_are_the_softmax_over_the_chosen_logits() -> None:
    normalised = router(SoftmaxRouter, top_k=3)
    logits, weights, experts = normalised(torch.randn(7, HIDDEN_SIZE))
    torch.testing.assert_close(weights, logits.gather(1, experts).softmax(-1))


def test_softmax_weights_that_are_not_normalised_are_the_probabilities_scaled() -> None:
    logits, weights, experts = router(SoftmaxRouter, is_normalised=False, scale=3.0)(
        torch.randn(7, HIDDEN_SIZE)
    )
    torch.testing.assert_close(weights, 3 * logits.softmax(-1).topk(2).values)
    assert torch.equal(experts, logits.topk(2).indices)


@torch.no_grad()
def test_the_bias_decides_who_is_chosen_but_not_with_what_weight() -> None:
    sigmoid, x = router(SigmoidRouter), torch.randn(7, HIDDEN_SIZE)
    sigmoid.bias[4] = 5.0
    logits, weights, experts = sigmoid(x)
    assert (experts[:, 0] == 4).all()
    scores = logits.sigmoid().gather(1, experts)
    torch.testing.assert_close(weights, scores / scores.sum(-1, keepdim=True))


@pytest.mark.parametrize("num_best", [1, 2])
def test_the_choice_stays_within_the_best_groups(num_best: int) -> None:
    scores = torch.rand(50, 12)
    limited = GroupLimit(num_groups=4, num_kept=2, num_best=num_best)(scores)
    for row, open_row in zip(scores.tolist(), limited.isfinite().tolist(), strict=True):
        groups = [row[3 * g : 3 * g + 3] for g in range(4)]
        strength = [sum(sorted(group)[-num_best:]) for group in groups]
        best = sorted(range(4), key=lambda g: -strength[g])[:2]
        assert open_row == [e // 3 in best for e in range(12)]
    assert torch.equal(limited[limited.isfinite()], scores[limited.isfinite()])


@pytest.mark.parametrize("kind", [SoftmaxRouter, SigmoidRouter])
def test_routing_is_in_fp32_whatever_the_precision_of_the_model(kind: type[Router]) -> None:
    half = router(kind).to(torch.bfloat16)
    routing = half(torch.randn(7, HIDDEN_SIZE).bfloat16())
    assert routing.logits.dtype == routing.weights.dtype == torch.float32


@torch.no_grad()
def test_the_bias_keeps_its_precision_but_follows_to_a_device() -> None:
    sigmoid = router(SigmoidRouter)
    sigmoid.bias.copy_(torch.rand(6))
    exact = sigmoid.bias.clone()
    sigmoid.to(torch.bfloat16)
    assert sigmoid.score.weight.dtype == torch.bfloat16
    assert torch.equal(sigmoid.bias, exact)
    assert sigmoid.to("meta", torch.float16).bias.dtype == torch.float32
    assert sigmoid.bias.device.type == "meta"
    assert not sigmoid.bias.requires_grad
    sigmoid.to_empty(device="cpu")
    assert sigmoid.bias.device.type == "cpu"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"top_k": 7}, "top_k=7 experts a token cannot be chosen of 6. Use 1 to 6"),
        ({"top_k": 0}, "top_k=0 experts"),
        ({"limit": (4, 1, 1)}, "num_experts=6 do not make 4 equal groups of at least 1. Use a multiple of 4"),
        ({"limit": (3, 1, 3)}, "num_experts=6 do not make 3 equal groups of at least 3. Use a multiple of 9"),
        ({"limit": (3, 4, 1)}, "4 groups cannot be kept of 3. Keep 3 or fewer"),
        ({"limit": (3, 1, 1), "top_k": 3}, "top_k=3 experts a token cannot be chosen of 2 in 1 of 3 groups"),
    ],
    ids=str,
)
def test_experts_choices_and_groups_that_do_not_fit_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    if "limit" in changes:
        names = ("num_groups", "num_kept", "num_best")
        changes = changes | {"limit": GroupLimit(**dict(zip(names, changes["limit"], strict=True)))}
    with pytest.raises(ConfigError, match=message):
        router(SoftmaxRouter, **changes)
