"""A run so small that a test can make it several times over: one layer, one id a byte, a few steps."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from malmoi.data.sources import SourceConfig
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.train.config import FromScratch, RunConfig
from malmoi.train.optim import OptimConfig
from malmoi.train.schedule import WarmupStableDecay

MakeRun = Callable[..., RunConfig]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return str(path)


@pytest.fixture
def chat_file(tmp_path: Path) -> str:
    rows = [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"네, {n}."}]}
        for n in range(20)
    ]
    return write_rows(tmp_path / "chat.jsonl", rows)


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Makes a run of six steps over prose, into `tmp_path / "out"`; keywords change its settings."""
    ByteTokenizer().save(tmp_path / "tokenizer")
    prose = write_rows(tmp_path / "prose.jsonl", [{"text": f"{n}번째 글이다. " * 3} for n in range(40)])
    run = RunConfig(
        out=str(tmp_path / "out"),
        start=FromScratch(depth=1, max_positions=64),
        tokenizer=str(tmp_path / "tokenizer"),
        sources=(SourceConfig(path=prose, holdout_permille=200),),
        total_tokens=6 * 128,
        context_length=32,
        tokens_per_batch=64,
        batches_per_step=2,
        optim=OptimConfig(lr=1e-2),
        schedule=WarmupStableDecay(warmup=0.2, decay=0.4),
        precision="fp32",
        compile=False,
        checkpoint_every=2,
    )

    def make(**changes: Any) -> RunConfig:
        return replace(run, **changes)

    return make
