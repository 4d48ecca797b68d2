"""Laws of train/balance.py: with it the experts of a sparse model are equally busy, without it a few do everything."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch

from malmoi.core.errors import ConfigError
from malmoi.models import build_model, initialise, load_model, save_model
from malmoi.models.deepseek_v3 import DeepseekV3Config
from malmoi.models.mixtral import MixtralConfig
from malmoi.nn.moe import GroupLimit, SigmoidRouter, SoftmaxRouter
from malmoi.nn.stack import Decoder
from malmoi.testing.crash import dies_at
from malmoi.testing.models import tiny_llama
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.train.balance import Balance, routers_of
from malmoi.train.config import FromCheckpoint, RunConfig
from malmoi.train.forward import Forward
from malmoi.train.loop import Observer, Trainer, train
from malmoi.train.losses import load_balancing_loss
from malmoi.train.metrics import read_metrics
from malmoi.train.objective import NextToken
from malmoi.train.optim import OptimConfig

MakeRun = Callable[..., RunConfig]
SHAPE: dict[str, Any] = {
    "vocab_size": ByteTokenizer().vocab_size,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_layers": 2,
    "num_heads": 2,
    "num_kv_heads": 2,
    "max_positions": 64,
    "num_experts": 4,
    "top_k": 2,
}
LATENT: dict[str, Any] = {"head_dim": 4, "content_dim": 4, "value_dim": 4, "kv_rank": 8, "query_rank": None}
CONFIGS: dict[str, Any] = {
    "softmax": MixtralConfig(**SHAPE, head_dim=8),
    "sigmoid": DeepseekV3Config(
        **SHAPE, **LATENT, num_dense_layers=0, num_shared_experts=1, expert_intermediate_size=8
    ),
}
RATES = {"softmax": 1e-2, "sigmoid": 2e-3}  # a bias does not need the optimiser, the second loss does
ALIVE, OFF = NextToken(aux_weight=0.1, bias_speed=0.01), NextToken(aux_weight=0, bias_speed=0)


def spoilt(kind: str) -> Decoder:
    """A sparse model whose tokens have a number in common that sends all of them to the first two experts."""
    model = initialise(build_model(CONFIGS[kind]), seed=0)
    assert isinstance(model, Decoder)
    with torch.no_grad():
        model.embedding.tokens.weight[:, 0] = 0.1  # type: ignore[union-attr, index]
        for router in routers_of(model):
            router.score.weight[:2, 0] = 0.3
    return model


@pytest.fixture
def sparse_run(make_run: MakeRun, tmp_path: Path) -> Callable[..., RunConfig]:
    """Makes a run that starts from a spoilt model; keywords change its settings."""

    def make(kind: str, **changes: Any) -> RunConfig:
        save_model(spoilt(kind), tmp_path / kind)
        ByteTokenizer().save(tmp_path / kind)
        return make_run(start=FromCheckpoint(path=str(tmp_path / kind)), tokenizer=None, **changes)

    return make


@pytest.mark.parametrize("kind", CONFIGS)
def test_experts_are_balanced_with_it_and_stay_collapsed_without(
    kind: str, sparse_run: MakeRun, tmp_path: Path
) -> None:
    """Two of four experts do everything at 2.0, and at 1.0 all do the same."""
    busiest = {}
    for objective in (ALIVE, OFF):
        out = tmp_path / str(objective.aux_weight)
        optim = OptimConfig(lr=RATES[kind])
        train(sparse_run(kind, objective=objective, total_tokens=60 * 128, optim=optim, out=str(out)))
        rows = read_metrics(out / "metrics.jsonl")
        assert rows[0]["busiest_expert"] == pytest.approx(2.0, abs=0.05)
        busiest[objective] = mean(row["busiest_expert"] for row in rows[-10:])
    assert busiest[ALIVE] < 1.45
    assert busiest[OFF] > 1.6, busiest


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_run_killed_and_resumed_ends_as_one_that_was_not(
    kind: str, sparse_run: MakeRun, tmp_path: Path
) -> None:
    run = sparse_run(kind, objective=ALIVE)
    train(replace(run, out=str(tmp_path / "whole")))
    with dies_at(60) as died:
        train(run)
    assert died
    train(run)
    ends = [sorted((tmp_path / out / "checkpoints").glob("step-*"))[-1] for out in ("whole", "out")]
    for file in ("weights.safetensors", "optimizer.safetensors"):
        assert (ends[0] / file).read_bytes() == (ends[1] / file).read_bytes()


def test_the_loss_of_a_run_is_that_of_its_text_whatever_the_weight(
    sparse_run: MakeRun, tmp_path: Path
) -> None:
    losses, balance = [], []
    for objective in (ALIVE, OFF):
        out = tmp_path / str(objective.aux_weight)
        train(sparse_run("softmax", objective=objective, total_tokens=128, out=str(out)))
        [row] = read_metrics(out / "metrics.jsonl")
        losses.append(row["loss"])
        balance.append(row["balance_loss"])
    assert losses[0] == losses[1]
    assert balance[0] == balance[1] > 2.5  # 2 is even, 4 the most


def test_gradients_are_those_of_the_mean_loss_and_the_weighted_second_one(sparse_run: MakeRun) -> None:
    """Against one formula over one batch, whatever the loop does in between."""
    trainer = Trainer(sparse_run("softmax", objective=ALIVE), Observer())
    batch = next(trainer._open_stream())
    trainer.balance.begin_step()
    trainer.accumulate([batch])
    ours = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()
    routed: list[torch.Tensor] = []
    total = Forward(trainer.model, is_compiled=False)(batch, router_logits=routed)
    second = load_balancing_loss(routed, num_experts=4, top_k=2)
    (total / (batch.targets != -100).sum() + 0.1 * second).backward()  # type: ignore[no-untyped-call]
    for name, parameter in trainer.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(ours[name], parameter.grad, atol=1e-6, rtol=1e-4)


def test_a_bias_moves_by_the_load_of_all_batches_of_a_step() -> None:
    router = SigmoidRouter(hidden_size=2, num_experts=3, top_k=1, is_normalised=True)
    balance = Balance([router], bias_speed=0.125)
    first, second, third = torch.eye(3) * 9
    for logits in (first, second, second, first, first):
        balance.penalty([logits[None]])
    assert balance.measured() == {"busiest_expert": pytest.approx(3 / (5 / 3))}
    balance.move_biases()
    assert router.bias.tolist() == [-0.125, -0.125, 0.125]  # 3, 2 and 0 tokens, where 5/3 is even
    balance.begin_step()
    balance.penalty([torch.stack([first, second, third])])
    balance.move_biases()
    assert router.bias.tolist() == [-0.125, -0.125, 0.125]  # the step was even


def test_the_load_is_what_the_router_chose_its_bias_and_groups_included() -> None:
    limit = GroupLimit(num_groups=2, num_kept=1, num_best=1)
    router = SigmoidRouter(hidden_size=4, num_experts=4, top_k=2, is_normalised=True, limit=limit)
    router.bias.data = torch.tensor([0.0, 0.1, 0.2, 0.3])
    x = torch.randn(50, 4)
    routing = router(x)
    balance = Balance([router])
    balance.penalty([routing.logits])
    wanted = torch.bincount(routing.experts.flatten(), minlength=4)
    assert balance._loads[0].tolist() == wanted.tolist()


def test_the_second_loss_is_of_the_experts_that_were_chosen_within_the_limit() -> None:
    """As DeepSeek-V2 routes: the two likeliest experts of a token may lie in two groups, of which one is kept."""
    limit = GroupLimit(num_groups=2, num_kept=1, num_best=1)
    router = SoftmaxRouter(hidden_size=4, num_experts=4, top_k=2, is_normalised=False, limit=limit)
    routing = router(3 * torch.randn(50, 4))
    likeliest = routing.logits.topk(2).indices.sort().values
    assert not torch.equal(likeliest, routing.experts.sort().values)
    share = torch.nn.functional.one_hot(routing.experts, 4).sum(dim=(0, 1)) / 50
    wanted = 4 * (share * routing.logits.softmax(dim=-1).mean(dim=0)).sum()
    torch.testing.assert_close(Balance([router], aux_weight=1.0).penalty([routing.logits]), wanted)


def test_evaluation_and_planning_move_nothing(sparse_run: MakeRun) -> None:
    run = sparse_run("sigmoid", objective=ALIVE)
    trainer = Trainer(replace(run, eval_sources=run.sources), Observer())
    before = [router.bias.clone() for router in routers_of(trainer.model)]  # type: ignore[operator]
    trainer._plan()
    trainer.evaluate()
    assert all(torch.equal(a, b.bias) for a, b in zip(before, routers_of(trainer.model), strict=True))  # type: ignore[arg-type]


def test_biases_are_saved_with_the_model(sparse_run: MakeRun) -> None:
    model = load_model(train(sparse_run("sigmoid", objective=ALIVE)))
    assert all(router.bias.abs().max() >= 0.01 for router in routers_of(model))  # type: ignore[operator]


def test_a_dense_model_is_trained_as_if_there_were_no_experts(make_run: MakeRun) -> None:
    model = train(make_run(objective=ALIVE))
    rows = read_metrics(model.parent / "metrics.jsonl")
    assert not {"busiest_expert", "balance_loss"} & rows[0].keys()
    assert routers_of(tiny_llama()) == []


def test_a_router_without_scores_is_a_bug() -> None:
    router = SoftmaxRouter(hidden_size=2, num_experts=2, top_k=1, is_normalised=True)
    with pytest.raises(ValueError, match="argument 2 is"):
        Balance([router, router]).penalty([torch.zeros(1, 2)])


@pytest.mark.parametrize("changes", [{"aux_weight": -0.1}, {"bias_speed": float("inf")}])
def test_a_weight_or_speed_is_zero_or_more(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="is not 0 or more. Give 0 to leave the experts alone"):
        NextToken(**changes)
