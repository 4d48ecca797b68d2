"""Laws of `malmoi train`: it says what it will do, what went wrong and where the result is."""

import json
import signal
from pathlib import Path
from typing import Any

import click.testing
import pytest
from rich.console import Console

from malmoi.cli import main
from malmoi.cli.train import train
from malmoi.cli.watch import TerminalObserver
from malmoi.recipes import RECIPES
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.train.preview import MaskedSample


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory as `sample/` is one, but tiny."""

    def write(name: str, rows: list[dict[str, Any]]) -> None:
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    write("prose.jsonl", [{"text": f"글 {n}. 바다는 넓다."} for n in range(300)])
    turns = [{"role": "user", "content": "안녕?"}, {"role": "assistant", "content": "네."}]
    write("chat.jsonl", [{"messages": [*turns, {"role": "user", "content": str(n)}]} for n in range(200)])
    ByteTokenizer().save(tmp_path / "tokenizer")
    return tmp_path


TINY = ["compile=false", "total_tokens=600", "tokens_per_batch=128", "context_length=64", "eval_batches=1"]


def run(recipe: str, data: Path, *arguments: str, settings: list[str] = TINY) -> list[str]:
    """Arguments of a run into `data / recipe`."""
    places = [f"out={data / recipe}"]
    places += (
        [f"start.path={data / 'pretrain' / 'model'}"]
        if recipe == "sft"
        else [f"tokenizer={data / 'tokenizer'}"]
    )
    sets = [word for setting in (*settings, *places) for word in ("--set", setting)]
    return ["train", recipe, "--data", str(data), *arguments, *sets]


def exit_code(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stopped:
        main.main(arguments)
    return int(stopped.value.code or 0)


def test_pretraining_then_sft_tell_plan_mask_progress_and_result(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(run("pretrain", data, "--depth", "1")) == 0
    told = capsys.readouterr().out
    assert "parameters │ 70,016 (16,576 in embedding" in told
    assert "step 5/5" in told
    assert "held out" in told
    assert f"model: {data}/pretrain/model" in told
    assert exit_code(run("sft", data)) == 0
    told = capsys.readouterr().out
    assert "what is learned (green)" in told
    assert f"report: {data}/sft/report.html" in told
    assert (data / "sft" / "model" / "model.safetensors").exists()


def test_run_again_it_resumes_and_says_so(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exit_code(run("pretrain", data, "--depth", "1"))
    capsys.readouterr()
    longer = [*TINY, "total_tokens=1000"]
    assert exit_code(run("pretrain", data, "--depth", "1", settings=longer)) == 0
    told = capsys.readouterr().out
    assert "resuming after step 5" in told
    assert "step 8/8" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pretrian"], "no recipe 'pretrian'. Did you mean 'pretrain'?"),
        (["pretrain", "--set", "optim.rl=1"], "unknown key 'optim.rl'. Valid keys of 'optim': kind, lr,"),
        (["pretrain", "--depth", "0"], "depth=0"),
        (["sft", "--set", "start.depth=3"], "unknown key 'start.depth'"),
        (["pretrain", "--data", "nowhere", "--set", "tokenizer={data}/tokenizer"], "nowhere/prose.*"),
        (["pretrain", "--data", "{data}", "--set", "tokenizer={data}/none"], "none"),
        (["sft", "--data", "{data}", "--set", "start.path={data}/none"], "none"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_exit_code_2(
    data: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    filled = [argument.format(data=data) for argument in arguments]
    assert exit_code(["train", *filled, "--set", f"out={data}/out", "--set", "compile=false"]) == 2
    stderr = capsys.readouterr().err
    assert told in stderr
    assert stderr.startswith("error: ")
    assert "Traceback" not in stderr


def test_ctrl_c_saves_and_leaves_with_130(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = TerminalObserver.on_step

    def and_stop(self: TerminalObserver, row: dict[str, Any], num_steps: int) -> None:
        draw(self, row, num_steps)
        if row["step"] == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(TerminalObserver, "on_step", and_stop)
    assert exit_code(run("pretrain", data, "--depth", "1")) == 130
    assert "stopped after step 2 and saved. Run the same command again" in capsys.readouterr().err
    assert [path.name for path in (data / "pretrain" / "checkpoints").iterdir()] == ["step-00000002"]


def test_the_help_names_every_recipe() -> None:
    told = click.testing.CliRunner().invoke(train, ["--help"]).output
    assert f"RECIPE: {', '.join(RECIPES)}." in " ".join(told.split()).replace(
        "- ", "-"
    )  # lines end at hyphens too


def test_in_a_terminal_what_is_learned_is_green_and_progress_is_a_bar() -> None:
    console = Console(
        force_terminal=True, color_system="standard", width=120, record=True, legacy_windows=False
    )
    with console.capture() as captured, TerminalObserver(console) as observer:
        pieces = (("user: 안녕?", False), ("네.", True))
        observer.on_masked_samples([MaskedSample(pieces=pieces, num_learned=2, num_tokens=8)])
        row = {"step": 3, "loss": 2.5, "bits_per_byte": 1.25, "tokens_per_second": 1234.5}
        observer.on_step(row, 10)
    told = captured.get()
    assert "\x1b[1;32m네." in told
    assert "\x1b[2muser: 안녕?" in told
    assert "3/10" in told
    assert "1,234 tok/s  loss 2.500  1.250 bits/byte" in told
