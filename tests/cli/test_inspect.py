"""`malmoi inspect`: a model as a page, without its weights."""

import doctest
import importlib
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from malmoi.cli.inspect import inspect
from malmoi.core.errors import ConfigError
from malmoi.core.files import write_json


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(inspect, [*map(str, args)], catch_exceptions=False)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model directory of which nothing is there but the configuration."""
    config = {"model_type": "mistral", "vocab_size": 61, "hidden_size": 24, "intermediate_size": 40}
    config |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config |= {"max_position_embeddings": 32, "sliding_window": 8}
    write_json(tmp_path / "config.json", config)
    return tmp_path


def test_it_tells_the_family_its_ideas_the_drawing_and_the_numbers() -> None:
    page = run("gpt2").output
    for words in (
        "gpt2, grew from transformer",
        "· learned positions",
        "12 layers: 1-12",
        "⊕◄╯",
        "124,439,808",
    ):
        assert words in page


def test_a_directory_needs_only_its_config(directory: Path) -> None:
    assert "sees a window of 8" in run(directory).output


def test_json_has_the_numbers(directory: Path) -> None:
    found = json.loads(run(directory, "--json", "--context", "32", "--dtype", "fp32", "--training").output)
    assert (
        found["parameters"]["total"] == 61 * 24 * 2 + 2 * (3 * 24 * 40 + 2 * 24 * 24 + 2 * 24 * 12 + 48) + 24
    )
    # Two layers, keys and values of two heads of 6, a window of 8 that rolls.
    assert found["cache"]["fp32"]["32"] == 2 * 2 * 2 * 6 * 8 * 4
    assert found["training_peak"] > found["training_state"] == 16 * found["parameters"]["total"]
    assert found["peak"] > found["weights"]["fp32"]


def test_more_sequences_and_wider_numbers_take_more(directory: Path) -> None:
    one, two, wide = (
        json.loads(run(directory, "--json", *more).output)["peak"]
        for more in ((), ("--batch", "2"), ("--dtype", "fp32"))
    )
    assert one < two < wide


@pytest.mark.parametrize("name", ["gpt2", "whisper-tiny", "clip-vit-l-14-336"])
def test_picture_and_page_are_whole(tmp_path: Path, name: str) -> None:
    svg, html = tmp_path / "model.svg", tmp_path / "model.html"
    run(name, "--svg", svg, "--html", html)
    ET.fromstring(svg.read_text("utf-8"))
    page = html.read_text("utf-8")
    assert svg.read_text("utf-8") in page
    assert "prefers-color-scheme: dark" in page
    # Nothing is fetched: the only address is the name of SVG itself.
    assert page.count("http") == page.count("http://www.w3.org/2000/svg") == 1
    assert "<script" not in page


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'llama3-7b' is no preset. Did you mean 'llama3-8b'"):
        run("llama3-7b")


@pytest.mark.parametrize("name", ["inspection", "inspection_text", "inspection_page"])
def test_docstring_examples_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"malmoi.cli.{name}")).failed == 0
