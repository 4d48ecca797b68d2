"""`malmoi inspect`: a model as a page, without its weights."""

import doctest
import importlib
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from malmoi.budget import generation_bytes, on_paper
from malmoi.cli.inspect import inspect
from malmoi.core.errors import ConfigError
from malmoi.core.files import write_json
from malmoi.models import build_model, count_parameters, save_model
from malmoi.models.llama import sized
from malmoi.models.quantized_files import tensors_of
from malmoi.nn.quantized import quantize


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


def test_a_directory_that_is_quantised_is_inspected_as_it_is(tmp_path: Path) -> None:
    model = quantize(
        build_model(sized(2, vocab_size=256, max_positions=64)).bfloat16(), "int4", group_size=64
    )
    save_model(model, tmp_path)
    found, asked = (
        json.loads(run(tmp_path, "--json", "--context", "64", *more).output)
        for more in ((), ("--dtype", "int4"))
    )
    assert found == asked
    assert found["dtype"] == "int4"
    assert found["weights"]["int4"] == sum(tensor.nbytes for tensor in tensors_of(model).values())
    assert found["parameters"]["total"] == count_parameters(model)
    assert found["peak"] < generation_bytes(on_paper(model.config, torch.bfloat16), 64)
    with pytest.raises(ConfigError, match="is quantised to int4, so dtype=bf16 cannot be had"):
        run(tmp_path, "--dtype", "bf16")


def test_fewer_bits_take_less() -> None:
    said = ["gpt2", "--json", "--context", "64", "--dtype"]
    peaks = [json.loads(run(*said, name).output)["peak"] for name in ("int4", "int8", "bf16", "fp32")]
    assert peaks == sorted(set(peaks))


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
