"""Laws of train/objective.py and agreement.py: what an encoder's run asks, learns, measures and leaves."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers

from malmoi.core.errors import ConfigError, DataError
from malmoi.data.pack import PackedBatch
from malmoi.data.samples import NO_TARGET
from malmoi.data.sources import SourceConfig
from malmoi.llm import TextEncoder
from malmoi.llm.pooling import Pooling
from malmoi.models import build_model, initialise, load_model, save_model
from malmoi.models.bert import BertConfig
from malmoi.nn.stack import Encoder
from malmoi.testing.crash import dies_at
from malmoi.testing.models import tiny_llama
from malmoi.text.training import train_bpe_for_encoders
from malmoi.train.agreement import accuracy, balanced_accuracy, pearson, ranks, spearman
from malmoi.train.config import FromCheckpoint, FromScratch, RunConfig
from malmoi.train.encoder_objectives import Labels, MaskedToken, Similarity, with_head
from malmoi.train.loop import Observer, Trainer, train
from malmoi.train.metrics import read_metrics
from malmoi.train.objective import NextToken
from malmoi.train.optim import OptimConfig

from .conftest import write_rows

MakeRun = Callable[..., RunConfig]
PAIRS = {"text_field": "s1", "pair_field": "s2", "label_field": "score"}
REVIEWS = [{"text": ("좋다 " if n % 2 else "나쁘다 ") + f"{n}", "label": n % 2} for n in range(60)]
SENTENCES = [{"s1": f"{n}번", "s2": f"{n if n % 2 else n + 50}번", "score": 5.0 * (n % 2)} for n in range(60)]


@pytest.fixture
def make_encoder_run(tmp_path: Path) -> MakeRun:
    """Makes a run of eight steps over gaps in reviews; keywords change its settings."""
    train_bpe_for_encoders(["a"], vocab_size=260).save(tmp_path / "tokenizer")
    run = RunConfig(
        out=str(tmp_path / "out"),
        start=FromScratch(depth=1, max_positions=64),
        tokenizer=str(tmp_path / "tokenizer"),
        objective=MaskedToken(),
        sources=(SourceConfig(path=write_rows(tmp_path / "reviews.jsonl", REVIEWS), holdout_permille=200),),
        total_tokens=8 * 256,
        context_length=64,
        tokens_per_batch=128,
        batches_per_step=2,
        optim=OptimConfig(lr=1e-2),
        precision="fp32",
        compile=False,
        eval_every=4,
        checkpoint_every=2,
    )
    write_rows(tmp_path / "pairs.jsonl", SENTENCES)

    def make(**changes: Any) -> RunConfig:
        return replace(run, **changes)

    return make


@pytest.fixture
def tasks(make_encoder_run: MakeRun, tmp_path: Path) -> dict[str, RunConfig]:
    """A run of each objective of encoders, evaluated on texts of its own."""
    reviews = SourceConfig(path=str(tmp_path / "reviews.jsonl"), label_field="label", holdout_permille=200)
    pairs = SourceConfig(path=str(tmp_path / "pairs.jsonl"), holdout_permille=200, **PAIRS)
    mlm = make_encoder_run()
    return {
        "masked-token": replace(mlm, eval_sources=mlm.sources),
        "labels": make_encoder_run(
            objective=Labels(labels=("부정", "긍정")), sources=(reviews,), eval_sources=(reviews,)
        ),
        "similarity": make_encoder_run(objective=Similarity(), sources=(pairs,), eval_sources=(pairs,)),
    }


def outcome(out: Path) -> dict[str, Any]:
    last = sorted((out / "checkpoints").glob("step-*"))[-1]
    rows = read_metrics(out / "metrics.jsonl")
    return {
        "weights": (last / "weights.safetensors").read_bytes(),
        "moments": (last / "optimizer.safetensors").read_bytes(),
        "rows": [{k: v for k, v in row.items() if k != "tokens_per_second"} for row in rows],
    }


@pytest.mark.parametrize("kind", ["masked-token", "labels", "similarity"])
def test_a_run_killed_and_resumed_ends_as_one_that_was_not(
    kind: str, tasks: dict[str, RunConfig], tmp_path: Path
) -> None:
    train(replace(tasks[kind], out=str(tmp_path / "whole")))
    with dies_at(60) as died:
        train(tasks[kind])
    assert died
    train(tasks[kind])
    assert outcome(tmp_path / "out") == outcome(tmp_path / "whole")


@pytest.mark.parametrize(
    ("kind", "measured"),
    [
        ("masked-token", {"loss", "accuracy"}),
        ("labels", {"loss", "accuracy", "balanced_accuracy", "count"}),
        ("similarity", {"loss", "pearson", "spearman", "count"}),
    ],
)
def test_a_run_measures_held_out_texts_and_reports_them(
    kind: str, measured: set[str], tasks: dict[str, RunConfig]
) -> None:
    run = tasks[kind]
    train(run)
    rows = read_metrics(Path(run.out) / "metrics.jsonl")
    found = [{key for key in row if key.startswith("held_out_")} for row in rows]
    assert found == [
        {f"held_out_{name}" for name in measured} if row["step"] % 4 == 0 else set() for row in rows
    ]
    assert all(row["bits_per_byte"] is None for row in rows)
    assert "held out" in (Path(run.out) / "report.html").read_text("utf-8")


def test_a_sentiment_is_learned_and_served_with_its_labels(tasks: dict[str, RunConfig]) -> None:
    model = train(replace(tasks["labels"], total_tokens=60 * 256))
    last = read_metrics(model.parent / "metrics.jsonl")[-1]
    assert last["held_out_accuracy"] == last["held_out_balanced_accuracy"] == 1.0
    found = TextEncoder.load(model).classify(["좋다 3", "나쁘다 4"])
    assert [one.label for one in found] == ["긍정", "부정"]
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(model)
    assert theirs.config.id2label == {0: "부정", 1: "긍정"}


def test_similarity_is_learned_and_served_as_a_cosine(tasks: dict[str, RunConfig]) -> None:
    run = replace(tasks["similarity"], total_tokens=60 * 256)
    model = train(run)
    rows = [row for row in read_metrics(model.parent / "metrics.jsonl") if "held_out_pearson" in row]
    assert rows[-1]["loss"] < rows[0]["loss"]
    encoder = TextEncoder.load(model)
    assert encoder.pooling == Pooling(kind="mean")
    vectors = encoder.embed(["7번", "7번", "57번"])
    same, other = F.cosine_similarity(vectors[:1], vectors[1:])
    assert same == pytest.approx(1)
    assert other < 0.99


def test_a_task_goes_on_from_an_encoder_that_filled_gaps(tasks: dict[str, RunConfig], tmp_path: Path) -> None:
    model = train(tasks["masked-token"])
    start = FromCheckpoint(path=str(model))
    trainer = Trainer(
        replace(tasks["labels"], out=str(tmp_path / "task"), start=start, tokenizer=None), Observer()
    )
    before, after = load_model(model, dtype=torch.float32).state_dict(), trainer.model.state_dict()
    body = [name for name in after if not name.startswith("head.")]
    assert all(torch.equal(before[name], after[name]) for name in body)
    assert trainer.model.config.labels == ("부정", "긍정")
    assert not (model / "chat_template.jinja").exists()
    assert not (model / "generation_config.json").exists()


def test_other_tokens_are_hidden_at_each_step_and_the_same_in_each_evaluation(
    tasks: dict[str, RunConfig],
) -> None:
    trainer = Trainer(tasks["masked-token"], Observer())
    batch = trainer.held_out[0]
    asked = [trainer._pose(batch, number).targets for number in (0, 1, 0)]
    assert torch.equal(asked[0], asked[2])
    assert not torch.equal(asked[0], asked[1])
    again = Trainer(tasks["masked-token"], Observer())
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(trainer.held_out, again.held_out, strict=True))


# --- losses, against PyTorch's on padded rows --------------------------------------------------------------


@pytest.fixture
def model() -> Encoder:
    config = BertConfig(
        vocab_size=260, hidden_size=16, intermediate_size=24, num_layers=2, num_heads=2, max_positions=32
    )
    built = initialise(build_model(config), seed=0, std=0.3)
    assert isinstance(built, Encoder)
    return built


def packed(rows: list[list[int]], targets: torch.Tensor) -> PackedBatch:
    tokens = torch.tensor([[token for row in rows for token in row]])
    return PackedBatch(tokens=tokens, targets=targets, lengths=tuple(len(row) for row in rows))


def states_of(model: Encoder, batch: PackedBatch) -> torch.Tensor:
    segments = batch.tokens.split(batch.lengths, dim=1)
    return torch.cat([model(segment).hidden for segment in segments], dim=1)


ROWS = [[1, 70, 71, 2], [1, 80, 2], [1, 90, 91, 92, 2], [1, 99, 2]]


def test_the_loss_of_hidden_tokens_is_that_of_their_logits(model: Encoder) -> None:
    masked = with_head(model, seed=0, head="masked-token", labels=())
    targets = torch.full((1, 15), NO_TARGET)
    targets[0, [1, 5, 9]] = torch.tensor([70, 7, 8])
    batch = packed(ROWS, targets)
    wanted = F.cross_entropy(
        torch.cat([masked(torch.tensor([row])).logits[0] for row in ROWS]), targets[0], reduction="sum"
    )
    loss = MaskedToken().loss(masked, is_compiled=False)(states_of(masked, batch), batch)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_the_loss_of_labels_is_that_of_each_texts_logits(model: Encoder) -> None:
    objective = Labels(labels=("a", "b", "c"))
    classifier = objective.fit(model, seed=0)
    targets = torch.full((1, 15), NO_TARGET)
    labels = torch.tensor([2, 0, 1, 1])
    targets[0, [0, 4, 7, 12]] = labels
    batch = packed(ROWS, targets)
    logits = torch.cat([classifier(torch.tensor([row])).logits for row in ROWS])
    loss = objective.loss(classifier, is_compiled=False)(states_of(classifier, batch), batch)
    assert loss.item() == pytest.approx(F.cross_entropy(logits, labels, reduction="sum").item(), rel=1e-5)
    told = objective.measure(classifier, [(batch, states_of(classifier, batch))])
    assert told["accuracy"] == (logits.argmax(-1) == labels).double().mean()


def test_the_loss_of_similarity_is_the_squared_error_of_the_cosine(model: Encoder) -> None:
    targets = torch.full((1, 15), float(NO_TARGET))
    targets[0, [0, 7]] = torch.tensor([0.75, 0.1])
    batch = packed(ROWS, targets)
    means = [model(torch.tensor([row])).hidden[0].mean(0) for row in ROWS]
    cosines = [F.cosine_similarity(means[i], means[i + 1], dim=0).item() for i in (0, 2)]
    wanted = (cosines[0] - 0.75) ** 2 + (cosines[1] - 0.1) ** 2
    loss = Similarity().loss(model, is_compiled=False)(states_of(model, batch), batch)
    assert loss.item() == pytest.approx(wanted, rel=1e-4)


# --- what is refused ---------------------------------------------------------------------------------------


def test_an_objective_refuses_a_model_of_another_kind(model: Encoder) -> None:
    with pytest.raises(ConfigError, match="Encoder"):
        NextToken().fit(model, seed=0)
    with pytest.raises(ConfigError, match="Decoder"):
        MaskedToken().fit(tiny_llama(), seed=0)


@pytest.mark.parametrize("labels", [(), ("하나",), ("a", "a")])
def test_labels_are_two_or_more_and_differ(labels: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="name two or more"):
        Labels(labels=labels)


@pytest.mark.parametrize("rate", [0.0, 1.0, -1.0])
def test_a_rate_is_a_share(rate: float) -> None:
    with pytest.raises(ConfigError, match="not between 0 and 1"):
        MaskedToken(rate=rate)


@pytest.mark.parametrize(
    ("objective", "row", "error", "message"),
    [
        (Labels(labels=("a", "b")), {"s1": "가", "score": 2}, DataError, "the label 2 is not one of"),
        (Labels(labels=("a", "b")), {"s1": "가", "score": "c"}, DataError, "the label 'c' is not one of"),
        (
            Labels(labels=("a", "b")),
            {"s1": "가", "s2": "나", "score": 1},
            ConfigError,
            "a label is of one text",
        ),
        (Similarity(), {"s1": "가", "score": 2}, ConfigError, "similarity is of two. Set pair_field"),
        (Similarity(), {"s1": "가", "s2": "나", "score": 6}, DataError, "the score 6 is not 0 to 5.0"),
        (Similarity(), {"s1": "가", "s2": "나", "score": "b"}, DataError, "the score 'b' is not"),
    ],
)
def test_what_was_said_of_a_text_has_to_be_of_the_objectives_kind(
    objective: Any, row: dict[str, Any], error: Any, message: str, make_encoder_run: MakeRun, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "wrong.jsonl", [row])
    fields = {**PAIRS, "pair_field": "s2" if "s2" in row else None}
    source = SourceConfig(path=path, holdout_permille=0, **fields)
    with pytest.raises(error, match=message):
        train(make_encoder_run(objective=objective, sources=(source,)))


def test_texts_of_which_nothing_is_asked_are_refused_before_the_first_step(
    make_encoder_run: MakeRun, tmp_path: Path
) -> None:
    """Of three tokens a share of 0.15 is none: the mean loss would be 0 / 0."""
    path = write_rows(tmp_path / "short.jsonl", [{"text": "abc"}])
    short = SourceConfig(path=path, holdout_permille=1000)
    with pytest.raises(DataError, match="the held-out batches have no target"):
        Trainer(make_encoder_run(eval_sources=(short,)), Observer())
    trainer = Trainer(make_encoder_run(), Observer())
    asked = PackedBatch(
        tokens=torch.ones(1, 2, dtype=torch.long), targets=torch.full((1, 2), -100), lengths=(2,)
    )
    with pytest.raises(DataError, match="the batches of a step have no target.*raise tokens_per_batch"):
        trainer.accumulate([asked])


def test_a_label_may_be_given_by_name(make_encoder_run: MakeRun, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "named.jsonl", [{"text": "좋다", "label": "긍정"}])
    source = SourceConfig(path=path, label_field="label", holdout_permille=0)
    run = make_encoder_run(objective=Labels(labels=("부정", "긍정")), sources=(source,), total_tokens=256)
    assert json.loads((train(run) / "config.json").read_text("utf-8"))["id2label"] == {
        "0": "부정",
        "1": "긍정",
    }


def test_a_run_of_next_tokens_refuses_to_start_from_an_encoder(
    make_encoder_run: MakeRun, model: Encoder, tmp_path: Path
) -> None:
    save_model(model, tmp_path / "encoder")
    start = FromCheckpoint(path=str(tmp_path / "encoder"))
    with pytest.raises(ConfigError, match="language-model training"):
        train(make_encoder_run(objective=NextToken(), start=start))


# --- agreement ---------------------------------------------------------------------------------------------


def test_accuracies_by_hand() -> None:
    answers, labels = torch.tensor([0, 0, 1, 1, 2, 0]), torch.tensor([0, 1, 1, 1, 2, 2])
    assert accuracy(answers, labels) == pytest.approx(4 / 6)
    assert balanced_accuracy(answers, labels) == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)


def test_correlations_by_hand() -> None:
    x, y = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([2.0, 1.0, 4.0, 3.0])
    assert pearson(x, y) == pytest.approx(0.6)  # sum of products of deviations 3, squares 5 and 5
    assert spearman(x, y) == pytest.approx(1 - 6 * 4 / (4 * 15))  # without ties: 1 - 6 sum(d^2) / n(n^2 - 1)
    assert pearson(x, -2 * x + 7) == pytest.approx(-1)
    assert spearman(x, x**9) == pytest.approx(1)
    assert math.isnan(pearson(x, torch.ones(4)))


def test_equal_values_share_their_ranks() -> None:
    assert ranks(torch.tensor([3.0, 1.0, 3.0, 2.0, 3.0])).tolist() == [4, 1, 4, 2, 4]
    assert spearman(torch.tensor([1.0, 1.0, 2.0]), torch.tensor([1.0, 1.0, 5.0])) == pytest.approx(1)
