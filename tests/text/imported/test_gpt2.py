"""vocab.json with merges.txt, against `transformers`."""

import json
from pathlib import Path

import pytest
import tokenizers
import transformers
from hypothesis import given

from malmoi.core.errors import TokenizerError
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training import train_bpe

from .samples import ANY_TEXT, MIXED_TEXT, TEXTS


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("gpt2")
    trained = train_bpe(TEXTS * 2, vocab_size=600, special_tokens=["<|endoftext|>"])
    trained.backend.model.save(str(directory))
    return directory


@pytest.mark.parametrize("name", ["GPT2Tokenizer", "Qwen2Tokenizer"])
def test_it_gives_the_ids_of_transformers(directory: Path, tmp_path: Path, name: str) -> None:
    for file in ("vocab.json", "merges.txt"):
        (tmp_path / file).write_bytes((directory / file).read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    ours = Tokenizer.load(tmp_path)
    theirs = getattr(transformers, name).from_pretrained(tmp_path)

    @given(ANY_TEXT | MIXED_TEXT)
    def on_any_text(text: str) -> None:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False, split_special_tokens=True)

    on_any_text()
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
    assert ours.special_tokens["<|endoftext|>"] == 0
    assert ours.config["eos_token"] == theirs.eos_token == "<|endoftext|>"


def test_without_a_configuration_it_is_gpt_2(directory: Path) -> None:
    ours = Tokenizer.load(directory)
    assert ours.encode("it's") == Tokenizer.load(directory / "vocab.json").encode("it's")
    assert ours.config["tokenizer_class"] == "PreTrainedTokenizerFast"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("merges.txt", "#version: 0.2\na b\n", "merges.txt:2: 'a b' does not merge"),
        ("merges.txt", "#version: 0.2\nab\n", "merges.txt:2: 'ab' does not merge"),
        ("merges.txt", None, "cannot read .*merges.txt"),
        ("vocab.json", '{"a": "1"}', "does not give every token an id"),
        ("vocab.json", "[", "vocab.json is not JSON"),
        ("tokenizer_config.json", '{"tokenizer_class": "CLIPTokenizer"}', "is none of GPT2Tokenizer"),
        ("tokenizer_config.json", '{"add_prefix_space": true}', "add_prefix_space=true"),
    ],
)
def test_broken_files_are_refused_by_name(
    directory: Path, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    for file in ("vocab.json", "merges.txt"):
        (tmp_path / file).write_bytes((directory / file).read_bytes())
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.load(tmp_path)


def test_an_added_token_that_is_a_byte_of_other_texts_is_refused_by_name(
    directory: Path, tmp_path: Path
) -> None:
    """An added é: in these files é is the byte 0xE9, with which 退 begins."""
    for file in ("vocab.json", "merges.txt"):
        (tmp_path / file).write_bytes((directory / file).read_bytes())
    byte = json.loads((directory / "vocab.json").read_text("utf-8"))["é"]
    (tmp_path / "added_tokens.json").write_text(json.dumps({"é": byte}))
    with pytest.raises(TokenizerError, match=f"vocab.json: the added token 'é'.* share the id {byte}"):
        Tokenizer.load(tmp_path)
    theirs = tokenizers.Tokenizer.from_str(Tokenizer.load(directory).backend.to_str())
    theirs.add_tokens(["é"])
    theirs.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TokenizerError, match=f"tokenizer.json: the added token 'é'.* share the id {byte}"):
        Tokenizer.load(tmp_path)
