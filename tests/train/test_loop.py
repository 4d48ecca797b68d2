"""Laws of train/loop.py: how often and when a run dies changes nothing of what it becomes."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from malmoi.core.config import to_mapping
from malmoi.core.errors import ConfigError, DataError, TokenizerError, TrainingError
from malmoi.data.pack import PackedBatch
from malmoi.data.sources import SourceConfig
from malmoi.models import load_model, save_model
from malmoi.testing.crash import dies_at
from malmoi.text.tokenizer import Tokenizer
from malmoi.train import report
from malmoi.train.config import FromCheckpoint, RunConfig
from malmoi.train.loop import Observer, Trainer, train
from malmoi.train.metrics import Row, read_metrics
from malmoi.train.optim import OptimConfig
from malmoi.train.stop import Interrupted

from .conftest import MakeRun, write_rows


def outcome(out: Path) -> dict[str, Any]:
    """All that a run leaves: every number of its last checkpoint and its model, and its rows without the clock."""
    last = sorted((out / "checkpoints").glob("step-*"))[-1]
    timeless = [
        {k: v for k, v in row.items() if k != "tokens_per_second"}
        for row in read_metrics(out / "metrics.jsonl")
    ]
    return {
        "weights": (last / "weights.safetensors").read_bytes(),
        "moments": (last / "optimizer.safetensors").read_bytes(),
        "state": json.loads((last / "state.json").read_text()),
        "model": (out / "model" / "model.safetensors").read_bytes(),
        "rows": timeless,
    }


@pytest.fixture
def with_chat(make_run: MakeRun, chat_file: str) -> RunConfig:
    """Prose and conversations, evaluated now and then, saved after every second of six steps."""
    run = make_run()
    chat = SourceConfig(path=chat_file, messages_field="messages")
    return replace(
        run, sources=(*run.sources, chat), eval_sources=run.sources, eval_every=3, context_length=64
    )


def test_a_run_killed_over_and_over_ends_as_one_that_was_not(with_chat: RunConfig, tmp_path: Path) -> None:
    train(replace(with_chat, out=str(tmp_path / "whole")))
    lives, died = 0, [True]
    while died:  # each life is a little longer than the one before
        with dies_at(12 + 19 * lives) as died:
            train(with_chat)
        lives += 1
    assert lives > 5
    assert outcome(tmp_path / "out") == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_killed_once_anywhere_and_resumed_it_ends_as_one_that_was_not(
    with_chat: RunConfig, tmp_path: Path
) -> None:
    train(replace(with_chat, out=str(tmp_path / "whole")))
    operation, died = 0, [True]
    while died:
        run = replace(with_chat, out=str(tmp_path / f"killed-at-{operation}"))
        with dies_at(operation) as died:
            train(run)
        train(run)
        assert outcome(Path(run.out)) == outcome(tmp_path / "whole")
        operation += 7
    assert operation > 100


class Stopper(Observer):
    """Sends a signal after a step, as Ctrl-C does."""

    def __init__(self, at: int, number: int) -> None:
        self.at, self.number, self.saved = at, number, []

    def on_step(self, row: Row, num_steps: int) -> None:
        if row["step"] == self.at:
            signal.raise_signal(self.number)

    def on_checkpoint(self, path: Path) -> None:
        self.saved.append(path.name)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_the_next_run_goes_on_from_there(
    make_run: MakeRun, tmp_path: Path, number: int
) -> None:
    handler = signal.getsignal(number)
    train(make_run(out=str(tmp_path / "whole")))
    stopper = Stopper(3, number)
    with pytest.raises(Interrupted, match="stopped after step 3 and saved"):
        train(make_run(), stopper)
    assert stopper.saved == ["step-00000002", "step-00000003"]
    assert signal.getsignal(number) is handler
    train(make_run())
    assert outcome(tmp_path / "out") == outcome(tmp_path / "whole")


def test_a_run_that_is_done_makes_its_model_again_and_trains_no_further(
    make_run: MakeRun, tmp_path: Path
) -> None:
    train(make_run())
    before = outcome(tmp_path / "out")
    (tmp_path / "out" / "report.html").unlink()
    train(make_run())
    assert outcome(tmp_path / "out") == before
    assert (tmp_path / "out" / "report.html").exists()


def test_a_longer_budget_goes_on_where_the_shorter_one_ended(make_run: MakeRun, tmp_path: Path) -> None:
    train(make_run())
    train(make_run(total_tokens=8 * 128))
    assert [row["step"] for row in read_metrics(tmp_path / "out" / "metrics.jsonl")] == list(range(1, 9))


def test_micro_batches_give_the_loss_and_gradients_of_one_large_batch(make_run: MakeRun) -> None:
    trainer = Trainer(make_run(), Observer())
    tokens, targets = torch.randint(3, 259, (1, 96)), torch.randint(3, 259, (1, 96))
    targets[:, :20] = -100  # so that the parts have unequally many targets
    lengths = (10, 22, 16, 16, 7, 25)

    def accumulated(*parts: tuple[slice, tuple[int, ...]]) -> tuple[float, list[torch.Tensor]]:
        trainer.model.zero_grad()
        batches = [PackedBatch(tokens=tokens[:, s], targets=targets[:, s], lengths=n) for s, n in parts]
        return trainer.accumulate(batches).item(), [p.grad.clone() for p in trainer.model.parameters()]

    loss, gradients = accumulated((slice(None), lengths))
    for num_parts in (2, 3):
        size, segments = 96 // num_parts, len(lengths) // num_parts
        parts = [
            (slice(i * size, (i + 1) * size), lengths[i * segments : (i + 1) * segments])
            for i in range(num_parts)
        ]
        loss_of_parts, gradients_of_parts = accumulated(*parts)
        assert loss_of_parts == pytest.approx(loss, rel=1e-6)
        torch.testing.assert_close(gradients_of_parts, gradients)


def test_a_batch_that_is_seen_again_and_again_is_learned_by_heart(make_run: MakeRun, tmp_path: Path) -> None:
    text = "말모이는 첫 우리말 사전이다. 뜻이 깊다."
    room = 1 + len(text.encode())  # a separator and every byte of it
    source = SourceConfig(path=write_rows(tmp_path / "one.jsonl", [{"text": text}]), holdout_permille=0)
    model_directory = train(
        make_run(
            sources=(source,), context_length=room, tokens_per_batch=room, batches_per_step=1,
            total_tokens=80 * room, checkpoint_every=1000, optim=OptimConfig(lr=2e-2), precision="bf16",
        )
    )  # fmt: skip
    assert read_metrics(tmp_path / "out" / "metrics.jsonl")[-1]["loss"] < 0.1
    model, tokenizer = load_model(model_directory), Tokenizer.load(model_directory)
    ids = [tokenizer.special_tokens["<|endoftext|>"]]
    while len(ids) <= room:
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert tokenizer.decode(ids, skip_special=True) == text


def test_what_pretraining_leaves_is_what_sft_starts_from(
    make_run: MakeRun, chat_file: str, tmp_path: Path
) -> None:
    base = train(make_run(out=str(tmp_path / "base")))
    generation = {"eos_token_id": [2], "temperature": 0.1}
    (base / "generation_config.json").write_text(json.dumps(generation))
    chat = SourceConfig(path=chat_file, messages_field="messages", holdout_permille=0)
    seen: list[Any] = []

    class Watcher(Observer):
        on_masked_samples = staticmethod(seen.extend)

    tuned = train(
        make_run(start=FromCheckpoint(path=str(base)), tokenizer=None, sources=(chat,), context_length=64),
        Watcher(),
    )
    assert [[learned for _, learned in sample.pieces] for sample in seen] == [[False, True]] * 3
    assert json.loads((tuned / "generation_config.json").read_text()) == generation
    assert json.loads((tuned / "malmoi.json").read_text())["run"]["start"]["path"] == str(base)
    before, after = (load_file(directory / "model.safetensors") for directory in (base, tuned))
    assert {name: t.shape for name, t in before.items()} == {name: t.shape for name, t in after.items()}
    assert all(
        t.dtype == torch.bfloat16 and not t.equal(before[name]) for name, t in after.items() if t.ndim > 1
    )


def test_a_sample_without_a_target_is_refused_by_its_line(make_run: MakeRun, tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "."}]}] * 5
    rows.append({"messages": [{"role": "user", "content": "누구 없어요?"}]})
    path = write_rows(tmp_path / "chat.jsonl", rows)
    chat = SourceConfig(path=path, messages_field="messages", holdout_permille=0)
    with pytest.raises(TrainingError, match=r"chat\.jsonl:6: nothing to learn.*roles: user"):
        train(make_run(sources=(chat,)))


def test_a_loss_that_is_not_finite_is_refused_with_step_and_remedy_and_costs_nothing_saved(
    make_run: MakeRun, tmp_path: Path
) -> None:
    train(make_run(total_tokens=2 * 128))
    checkpoint = tmp_path / "out" / "checkpoints" / "step-00000002"
    saved = {file.name: file.read_bytes() for file in checkpoint.iterdir()}
    exploding = make_run(optim=OptimConfig(lr=1e38), checkpoint_every=100)
    with pytest.raises(
        TrainingError, match=r"step \d: the loss is .*nothing saved is lost.*lower optim\.lr \(now 1e\+38"
    ):
        train(exploding)
    assert {file.name: file.read_bytes() for file in checkpoint.iterdir()} == saved
    train(make_run())  # the remedy: the old rate
    rows = read_metrics(tmp_path / "out" / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(row["loss"]) for row in rows)


def test_a_run_reports_every_step_and_what_it_was(with_chat: RunConfig, tmp_path: Path) -> None:
    train(with_chat)
    out = tmp_path / "out"
    rows = read_metrics(out / "metrics.jsonl")
    assert [row["tokens"] for row in rows] == [128 * n for n in range(1, 7)]
    assert [row["step"] for row in rows if "held_out_bits_per_byte" in row] == [3, 6]
    assert rows[0]["loss"] == pytest.approx(math.log(259), rel=0.02), "at first every byte is as likely"
    assert json.loads((out / "run.json").read_text()) == to_mapping(with_chat)
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"sources": (SourceConfig(path="nowhere/prose.*"),)}, DataError, r"nowhere/prose\.\*"),
        ({"tokenizer": "nowhere"}, TokenizerError, "nowhere"),
        ({"context_length": 65}, ConfigError, r"context_length=65 exceeds the 64 positions"),
        ({"eval_sources": (SourceConfig(path="nowhere.txt"),)}, DataError, r"nowhere\.txt"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_refused_by_name(
    make_run: MakeRun, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(make_run(**changes))


def test_a_tokenizer_with_more_ids_than_the_model_has_rows_is_refused(
    make_run: MakeRun, tmp_path: Path
) -> None:
    from malmoi.testing.tokenizer import ByteTokenizer

    base = train(make_run(out=str(tmp_path / "base"), total_tokens=1))
    ByteTokenizer((*ByteTokenizer().special_tokens, "<|more|>")).save(tmp_path / "larger")
    with pytest.raises(ConfigError, match=r"260 tokens.*only 259 rows"):
        train(make_run(start=FromCheckpoint(path=str(base)), tokenizer=str(tmp_path / "larger")))


def test_a_quantised_model_is_not_trained(make_run: MakeRun, tmp_path: Path) -> None:
    base = train(make_run(out=str(tmp_path / "base"), total_tokens=1))
    save_model(load_model(base, dtype="int8"), base)
    with pytest.raises(ConfigError, match="are quantised: rounded numbers get no gradient"):
        train(make_run(start=FromCheckpoint(path=str(base)), tokenizer=None))


def test_without_matplotlib_a_run_is_refused_before_it_starts(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(report, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"pip install 'malmoi\[train\]'"):
        train(make_run())
    assert not (tmp_path / "out").exists()


PROGRAM = """
import json, sys
from malmoi.core.config import from_mapping
from malmoi.train.config import RunConfig
from malmoi.train.loop import Observer, train

class Teller(Observer):
    def on_step(self, row, num_steps):
        print(row["step"], flush=True)

train(from_mapping(RunConfig, json.loads(sys.argv[1]), where="test"), Teller())
"""


def train_in_a_process(run: RunConfig, *, kill_after: int | None = None) -> None:
    """Run it, with no clean-up after `kill_after` steps; compiled code runs in processes of its own only."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(to_mapping(run))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if kill_after is not None and int(line) >= kill_after:
                os.kill(process.pid, signal.SIGKILL)
                break
        process.stdout.read()
    assert process.returncode == (0 if kill_after is None else -signal.SIGKILL)


@pytest.mark.slow
def test_a_process_killed_by_sigkill_again_and_again_ends_as_one_that_was_not(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run(total_tokens=40 * 128, checkpoint_every=3)
    for kill_after in (5, 14, 29, None):
        train_in_a_process(run, kill_after=kill_after)
    train(replace(run, out=str(tmp_path / "whole")))
    assert outcome(tmp_path / "out") == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_without_a_compiler_a_compiled_run_is_refused_with_both_ways_out(
    make_run: MakeRun, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", PROGRAM, json.dumps(to_mapping(make_run(compile=True)))]
    env = os.environ | {"CXX": "/no/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    refusal = done.stderr.splitlines()[-1]
    assert "ConfigError: the step cannot be compiled here: " in refusal
    assert "Install a C++ compiler" in refusal
    assert "compile=false" in refusal


@pytest.mark.slow
def test_compiled_a_killed_run_ends_as_a_whole_one_too_and_both_stay_near_the_plain_one(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run(compile=True, precision="bf16")
    train_in_a_process(run, kill_after=3)
    train_in_a_process(run)
    train_in_a_process(replace(run, out=str(tmp_path / "whole")))
    train(replace(run, out=str(tmp_path / "plain"), compile=False))
    assert outcome(tmp_path / "out") == outcome(tmp_path / "whole")
    compiled, plain = (outcome(tmp_path / name)["rows"] for name in ("whole", "plain"))
    assert [row["loss"] for row in compiled] == pytest.approx([row["loss"] for row in plain], rel=5e-3)
