"""The story as a script: from the sample corpus to a model that answers, in a few processes, on two cores."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(ROOT / "runs" / "speedrun.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)


@pytest.mark.slow
def test_a_tiny_setting_runs_from_text_to_an_answer(tmp_path: Path) -> None:
    tiny = (
        "compile=false",
        "total_tokens=32768",
        "tokens_per_batch=2048",
        "context_length=256",
        "eval_batches=2",
    )
    settings = [word for setting in tiny for word in ("--set", setting)]
    done = run("--depth", "2", "--out", str(tmp_path), *settings)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 16/16") == 2, "both stages came to their end"
    assert "배우는 곳" in done.stdout, "the loss mask was shown"
    talk = done.stdout.split("== 4.")[1].split("== done")[0].splitlines()[1:]
    assert len("".join(talk)) > 20, "a text was continued and a question answered"
    for stage in ("pretrain", "sft"):
        files = {path.name for path in (tmp_path / stage / "model").iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= files
        assert (tmp_path / stage / "report.html").stat().st_size > 10_000


def test_an_option_that_there_is_not_shows_how_it_is_used() -> None:
    done = run("--dept", "2")
    assert done.returncode == 2
    assert done.stdout.startswith("From a pile of Korean text")
    assert "There is ONE dial" in done.stdout
    assert "set -euo" not in done.stdout


def test_an_option_without_its_value_is_refused() -> None:
    done = run("--depth")
    assert done.returncode != 0
    assert "--depth needs a value" in done.stderr
