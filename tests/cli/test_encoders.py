"""`malmoi embed` and `malmoi classify`: a line a text, as JSON or to be read."""

import json
from pathlib import Path

import pytest
import torch
from click import Command
from click.testing import CliRunner, Result

from malmoi.budget import weight_bytes
from malmoi.cli.classify import classify
from malmoi.cli.embed import embed
from malmoi.cli.engine import EngineSettings
from malmoi.cli.loading import load_any, memory_of
from malmoi.core.errors import DataError
from malmoi.llm import TextEncoder
from malmoi.models import build_model, initialise, save_model
from malmoi.models.bert import BertConfig
from malmoi.text.training import train_bpe_for_encoders

TEXTS = ["정말 재밌게 봤어요", "돈이 아깝다"]


@pytest.fixture
def directory(tmp_path: Path) -> str:
    config = BertConfig(
        vocab_size=260, hidden_size=16, intermediate_size=24, num_layers=1, num_heads=2, max_positions=64,
        head="sequence", labels=("부정", "긍정"),
    )  # fmt: skip
    save_model(initialise(build_model(config), seed=0, std=0.3), tmp_path)
    train_bpe_for_encoders(["a"], vocab_size=260).save(tmp_path)
    return str(tmp_path)


def run(verb: Command, *args: str, stdin: str = "") -> Result:
    return CliRunner().invoke(verb, args, input=stdin.encode(), catch_exceptions=True)


def test_embed_prints_a_vector_a_text(directory: str) -> None:
    result = run(embed, "--model", directory, *TEXTS)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    assert torch.allclose(
        torch.tensor([row["embedding"] for row in rows]), TextEncoder.load(directory).embed(TEXTS)
    )


@pytest.mark.parametrize("dtype", [None, "fp32", "bf16", "int8"])
def test_the_server_loads_an_encoder_in_the_precision_that_is_asked_for(
    directory: str, dtype: str | None
) -> None:
    before = torch.get_num_threads()
    settings = EngineSettings(dtype=dtype, threads=before + 1)
    try:
        loaded = load_any(directory, settings)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert isinstance(loaded, TextEncoder)
    assert memory_of(directory, settings) == weight_bytes(loaded.model)
    exact = TextEncoder.load(directory).embed(TEXTS)
    apart = (loaded.embed(TEXTS) - exact).abs().max() / exact.abs().max()
    assert apart == 0 if dtype in (None, "fp32") else 0 < apart < 0.1


def test_embed_compares_texts(directory: str) -> None:
    result = run(embed, "--model", directory, "--similarity", TEXTS[0], TEXTS[1], TEXTS[0])
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [row[-1] for row in rows] == [TEXTS[0], TEXTS[1], TEXTS[0]]
    matrix = torch.tensor([[float(cosine) for cosine in row[:-1]] for row in rows])
    assert torch.equal(matrix, matrix.T)
    assert matrix.diagonal().tolist() == [1, 1, 1]
    assert matrix[0, 2] == 1 > matrix[0, 1]


def test_classify_prints_label_probability_and_text(directory: str) -> None:
    wanted = TextEncoder.load(directory).classify(TEXTS)
    lines = run(classify, "--model", directory, *TEXTS).stdout.splitlines()
    assert lines == [f"{one.label}\t{one.score:.3f}\t{text}" for one, text in zip(wanted, TEXTS, strict=True)]
    rows = [
        json.loads(line) for line in run(classify, "--model", directory, "--json", *TEXTS).stdout.splitlines()
    ]
    assert [row["label"] for row in rows] == [one.label for one in wanted]
    assert rows[0]["scores"] == pytest.approx(dict(wanted[0].scores))


@pytest.mark.parametrize("verb", [embed, classify])
def test_a_dash_reads_a_text_a_line(verb: Command, directory: str) -> None:
    result = run(verb, "--model", directory, "-", stdin="\n".join(TEXTS) + "\n")
    assert result.stdout == run(verb, "--model", directory, *TEXTS).stdout


def test_a_text_that_is_not_utf8_is_refused_before_a_model_is_loaded() -> None:
    result = run(classify, "--model", "nowhere", "가", "나 \udcb0\udca1", "-")
    assert isinstance(result.exception, DataError)
    assert str(result.exception).startswith("text 2 is not UTF-8 at character 2. Malmoi reads UTF-8")
