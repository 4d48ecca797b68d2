"""`malmoi bench`: a model's speed beside what the machine allows."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from malmoi.bench.rounds import rounds
from malmoi.cli.bench import bench
from malmoi.core.errors import ConfigError
from malmoi.models import save_model
from malmoi.testing.models import tiny_llama


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the verb on a tiny model, as shortly as it can be."""
    monkeypatch.setattr("malmoi.bench.roofline.LONG_ENOUGH", 0.01)
    save_model(tiny_llama(), tmp_path / "tiny")
    threads = torch.get_num_threads()

    def invoke(*args: str) -> Result:
        short = ("--seconds", "0", "--batch", "1,2", "--out", str(tmp_path / "out"))
        return CliRunner().invoke(bench, [str(tmp_path / "tiny"), *short, *args], catch_exceptions=False)

    yield invoke
    torch.set_num_threads(threads)


def test_a_bench_is_a_table_a_picture_and_the_numbers(run: Any, tmp_path: Path) -> None:
    shown = run("--prompt", "16,32", "--context", "8").output
    for word in (
        "tiny: ",
        "fp32",
        "prefill 16",
        "prefill 32",
        "decode batch 1",
        "decode batch 2",
        "GB/s",
        "bench.png",
    ):
        assert word in shown
    assert (tmp_path / "out" / "bench.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads((tmp_path / "out" / "bench.json").read_text("utf-8"))
    assert [row["tokens"] for row in found["rows"]] == [16, 32, 1, 2]
    assert found["bandwidth"]["low"] <= found["bandwidth"]["median"] <= found["bandwidth"]["high"]


def test_lengths_that_are_not_said_fit_the_model_and_weights_get_the_precision_asked_for(run: Any) -> None:
    shown = run("--dtype", "bf16", "--threads", "1").output
    assert "prefill 127" in shown
    assert "bf16" in shown


def test_a_preset_gets_random_weights_in_the_precision_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("malmoi.models.registry.find_preset", lambda name: tiny_llama(hidden_size=64).config)
    options = ("--dtype", "int8", "--seconds", "0", "--batch", "1", "--threads", "1", "--out", str(tmp_path))
    shown = CliRunner().invoke(bench, ["llama3-8b", *options], catch_exceptions=False).output
    assert "llama3-8b, random weights: 0.1 M parameters, int8" in shown


def test_a_length_that_does_not_fit_is_refused(run: Any) -> None:
    with pytest.raises(ConfigError, match="Ask for a shorter prompt"):
        run("--prompt", "4096")


@pytest.mark.parametrize("numbers", ["", "0", "1,,2", "4x", "-1"])
def test_what_is_no_list_of_numbers_is_refused(run: Any, numbers: str) -> None:
    result = run("--batch", numbers)
    assert result.exit_code == 2
    assert "Give them like 1,4,16." in result.output


def test_ctrl_c_shows_what_was_measured(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(measurements: Mapping[str, Any], **options: Any) -> Iterator[dict[str, float]]:
        yield next(rounds(measurements, seconds=0))
        raise KeyboardInterrupt

    monkeypatch.setattr("malmoi.bench.report.rounds", interrupted)
    result = run("--prompt", "16")
    assert "여기까지 잰 것" in result.output
    assert "decode batch 2" in result.output


def test_without_matplotlib_the_table_is_there_and_the_extra_is_named(
    run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("malmoi.bench.plot.find_spec", lambda name: None)
    shown = run("--prompt", "16").output
    assert "pip install 'malmoi[train]'" in shown
    assert "prefill 16" in shown
    assert not (tmp_path / "out" / "bench.png").exists()
