"""What a model runs with, from the command line: the engine gets it, and refuses what does not go together."""

import json
import re
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner, Result

from malmoi.cli.chat import chat
from malmoi.cli.engine import EngineSettings, engine_options
from malmoi.cli.generate import generate
from malmoi.cli.loading import load_llm
from malmoi.core.errors import ConfigError, HubError
from malmoi.engine import Engine, PromptLookup
from malmoi.models import save_model
from malmoi.nn.int8_cache import Int8PagedCache
from malmoi.nn.quantized import quantization_of
from malmoi.testing.models import tiny_llama, tiny_lstm
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.chat import ChatTemplate


def saved(directory: Path, model: Any) -> str:
    save_model(model, directory)
    ByteTokenizer().save(directory)
    ChatTemplate.default().save(directory)
    return str(directory)


@pytest.fixture
def model(tmp_path: Path) -> Iterator[str]:
    threads = torch.get_num_threads()
    yield saved(tmp_path / "모델", tiny_llama(hidden_size=64, head_dim=16))
    torch.set_num_threads(threads)


def run(*args: str) -> Result:
    return CliRunner().invoke(generate, ["가나다가나다", "--temperature", "0", "--max-tokens", "12", *args])


def settings_of(*args: str) -> EngineSettings:
    heard: list[EngineSettings] = []

    @click.command()
    @engine_options
    def command(settings: EngineSettings) -> None:
        heard.append(settings)

    result = CliRunner().invoke(command, args, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return heard[0]


def test_without_an_option_everything_is_as_an_engine_has_it() -> None:
    assert settings_of() == EngineSettings()
    assert EngineSettings().engine_options() == {}


def test_every_setting_but_three_is_an_argument_of_the_engine() -> None:
    names = set(vars(EngineSettings())) - {"dtype", "device", "threads"}
    assert names <= set(signature(Engine).parameters)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1000000", 10**6), ("512M", 2**29), ("2g", 2**31), ("1.5GiB", 3 * 2**29), ("64 KB", 2**16)],
)
def test_a_size_is_bytes_or_has_a_unit(text: str, size: int) -> None:
    assert settings_of("--cache-bytes", text).cache_bytes == size


@pytest.mark.parametrize("text", ["", "-1", "1X", "M", "1e9", "1,5G"])
def test_what_is_no_size_is_refused(text: str) -> None:
    result = run("--cache-bytes", text)
    assert result.exit_code == 2
    assert "is no size. Give bytes, or a number with K, M or G, such as 512M." in result.output


def test_all_of_it_reaches_the_engine(model: str) -> None:
    settings = settings_of(
        *("--dtype", "int8", "--threads", "2", "--cache-bytes", "1M", "--cache-dtype", "int8"),
        *("--no-prefix-caching", "--speculation", "lookup"),
    )
    llm = load_llm(model, settings)
    engine = llm.engine
    quantization = quantization_of(llm.model)
    assert quantization is not None
    assert quantization.precision == "int8"
    assert torch.get_num_threads() == 2
    assert all(isinstance(pool, Int8PagedCache) for pool in engine.runner.pools)
    assert isinstance(engine.drafter, PromptLookup)
    assert EngineSettings(
        batch_invariant=True, keeps_freed_memory=True, prefix_caching=False
    ).engine_options() == {
        "batch_invariant": True,
        "keeps_freed_memory": True,
        "prefix_caching": False,
    }


@pytest.mark.parametrize("speculation", ["lookup", "auto", "DIR"])
def test_speculation_changes_no_answer_and_is_summed_up(model: str, tmp_path: Path, speculation: str) -> None:
    draft = saved(tmp_path / "작은", tiny_llama(hidden_size=64, head_dim=16))
    args = ["--model", model, "--speculation", draft if speculation == "DIR" else speculation]
    plain, guessed = run("--model", model), run(*args, "--verbose")
    assert plain.exit_code == 0
    assert guessed.stdout == plain.stdout
    assert "tokens guessed" in guessed.stderr
    assert "speculation" not in run("--model", model, "--verbose").stderr
    shown = run(*args, "--verbose", "--json")
    assert json.loads(shown.stdout)["text"] == plain.stdout.removesuffix("\n")
    assert "tokens guessed" in shown.stderr
    if speculation == "DIR":  # it is the same model, so it is right as often as it is asked
        assert "(100%)" in guessed.stderr


def test_what_does_not_go_together_the_engine_refuses(model: str, tmp_path: Path) -> None:
    result = run("--model", model, "--batch-invariant", "--speculation", "auto")
    assert isinstance(result.exception, ConfigError)
    assert "goes with neither speculation nor an encoder" in str(result.exception)
    result = run("--model", model, "--cache-bytes", "10")
    assert "cache_bytes=10 is less than" in str(result.exception)
    result = run("--model", model, "--speculation", saved(tmp_path / "lstm", tiny_lstm()))
    assert "Use a decoder whose layers are all attention" in str(result.exception)
    result = run("--model", model, "--speculation", "lokup")
    assert isinstance(result.exception, HubError)
    assert "speculation='lokup' is none of off, lookup and auto, and as a model: there is" in str(
        result.exception
    )


def test_a_conversation_takes_the_same_options(model: str) -> None:
    args = ["안녕?", "--model", model, "--max-tokens", "4", "--speculation", "lookup", "--batch-invariant"]
    result = CliRunner().invoke(chat, args)
    assert isinstance(result.exception, ConfigError)
    assert CliRunner().invoke(chat, args[:-1]).exit_code == 0


@pytest.mark.parametrize("command", [generate, chat])
def test_help_has_three_sections_and_every_option_once(command: Any) -> None:
    shown = CliRunner().invoke(command, ["--help"]).output
    own, sampling, engine = (shown.partition(f"{name}:\n")[2] for name in ("Options", "Sampling", "Engine"))
    assert len(own) > len(sampling) > len(engine) > 0
    for option in command.params:
        for name in option.opts if isinstance(option, click.Option) else ():
            assert len(re.findall(rf"^  {name}\b(?!-)", own, re.MULTILINE)) == 1, name
    assert "--seed" not in engine
    assert "--dtype" not in own.partition("Sampling:")[0]
