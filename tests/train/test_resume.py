"""Laws of train/resume.py: checkpoints are taken up by their own run only, and a mistake is told by its key."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from malmoi.core.errors import ConfigError
from malmoi.train.config import FromScratch, RunConfig
from malmoi.train.optim import OptimConfig
from malmoi.train.resume import claim_out
from malmoi.train.schedule import Cosine

from .conftest import MakeRun


@pytest.fixture
def begun(make_run: MakeRun, tmp_path: Path) -> RunConfig:
    """A run that has saved a checkpoint."""
    run = make_run()
    assert claim_out(run) is None
    (tmp_path / "out" / "checkpoints" / "step-00000002").mkdir(parents=True)
    return run


def test_the_same_run_takes_up_its_newest_checkpoint(begun: RunConfig, tmp_path: Path) -> None:
    assert claim_out(begun) == tmp_path / "out" / "checkpoints" / "step-00000002"


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("seed", {"seed": 1}),
        ("context_length", {"context_length": 16}),
        ("batches_per_step", {"batches_per_step": 3}),
        ("precision", {"precision": "bf16"}),
        (r"start\.depth", {"start": FromScratch(depth=2, max_positions=64)}),
        (r"optim\.kind", {"optim": OptimConfig(kind="adamw", lr=1e-2)}),
        (r"sources\.1\.", lambda run: {"sources": run.sources * 2}),
        (r"sources\.0\.weight", lambda run: {"sources": (replace(run.sources[0], weight=3.0),)}),
    ],
)
def test_another_run_is_refused_by_the_key_that_differs(begun: RunConfig, key: str, changes: object) -> None:
    changed = replace(begun, **(changes(begun) if callable(changes) else changes))
    with pytest.raises(
        ConfigError, match=rf"holds a run with {key}.*, but now {key}.*Give this run another `out`"
    ):
        claim_out(changed)


def test_budget_rates_and_intervals_may_change_and_are_written_down(begun: RunConfig, tmp_path: Path) -> None:
    changed = replace(
        begun, total_tokens=10_000, schedule=Cosine(), optim=OptimConfig(lr=1e-4, clip_norm=0.5), eval_every=7,
        eval_sources=begun.sources, checkpoint_every=9, keep_checkpoints=5, tensorboard=True,
    )  # fmt: skip
    assert claim_out(changed) is not None
    written = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (written["total_tokens"], written["optim"]["lr"]) == (10_000, 1e-4)


def test_a_run_that_saved_nothing_binds_nobody(make_run: MakeRun) -> None:
    claim_out(make_run())
    assert claim_out(make_run(seed=1)) is None


def test_a_run_may_be_moved_to_another_directory(begun: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "out").rename(tmp_path / "moved")
    assert claim_out(replace(begun, out=str(tmp_path / "moved"))) is not None


def test_checkpoints_whose_run_is_not_readable_are_refused(begun: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "out" / "run.json").write_text("{")
    with pytest.raises(ConfigError, match=r"run\.json is not JSON"):
        claim_out(begun)
