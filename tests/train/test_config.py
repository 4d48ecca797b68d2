"""Laws of train/config.py: a run that could not be is refused when it is described."""

from typing import Any

import pytest

from malmoi.core.config import from_mapping, override, to_mapping
from malmoi.core.errors import ConfigError
from malmoi.train.config import FromScratch, RunConfig

from .conftest import MakeRun


def test_steps_times_tokens_cover_the_budget_and_no_step_is_too_many(make_run: MakeRun) -> None:
    for total in range(1, 400, 7):
        run = make_run(total_tokens=total)
        assert (run.num_steps - 1) * run.tokens_per_step < total <= run.num_steps * run.tokens_per_step


def test_a_run_goes_through_json_and_back(make_run: MakeRun) -> None:
    assert from_mapping(RunConfig, to_mapping(make_run()), where="test") == make_run()


@pytest.mark.parametrize(
    "name",
    [
        "total_tokens",
        "context_length",
        "tokens_per_batch",
        "checkpoint_every",
        "eval_batches",
        "keep_checkpoints",
    ],
)
def test_numbers_that_are_not_positive_are_refused_by_name(make_run: MakeRun, name: str) -> None:
    for value in (0, -1):
        with pytest.raises(ConfigError, match=f"{name}={value} is not positive"):
            make_run(**{name: value})


def test_a_model_from_scratch_needs_a_tokenizer(make_run: MakeRun) -> None:
    with pytest.raises(ConfigError, match="needs a tokenizer"):
        make_run(tokenizer=None)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("optim.lr=0", "optim: lr=0.0 is not positive"),
        ("start.depth=0", "start: depth=0 is not positive"),
        ("optim.kind=sgd", "'adamw' | 'muon'"),
        ("schedule.kind=linear", "Valid kinds: cosine, wsd"),
        ("sources.0.weight=-1", "weight=-1.0"),
        ("learning_rate=1", "unknown key 'learning_rate'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_its_path(
    make_run: MakeRun, assignment: str, message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        override(make_run(), [assignment])
    assert message in str(refused.value)


def test_every_part_of_a_run_can_be_set(make_run: MakeRun) -> None:
    assignments = [
        "start.depth=3",
        "optim.lr=1e-4",
        "schedule.kind=cosine",
        "schedule.warmup=0.5",
        "compile=true",
    ]
    run: Any = override(make_run(), assignments)
    assert run.start == FromScratch(depth=3, max_positions=64)
    assert (run.optim.lr, run.schedule.warmup, run.schedule.kind, run.compile) == (1e-4, 0.5, "cosine", True)
