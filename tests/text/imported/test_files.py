"""Which file is read, what lies beside it, and what is done with the result."""

import json
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, trainers
from transformers import AutoTokenizer

from malmoi.cli.main import main
from malmoi.core.errors import TokenizerError
from malmoi.llm import load
from malmoi.models import save_model
from malmoi.testing.models import tiny_llama
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.chat import ChatTemplate
from malmoi.text.tokenizer import Tokenizer

from .samples import KOREAN, MISTRAL, TEXTS, train_sentencepiece


@cache
def model() -> bytes:
    return train_sentencepiece("bpe", "identity", has_bytes=True, remove_extra_whitespaces=False)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.model").write_bytes(model())
    return tmp_path


def test_a_tokenizer_json_is_preferred_and_used_as_it_is(directory: Path) -> None:
    size = Tokenizer.load(directory).vocab_size
    assert size > 259
    ByteTokenizer().save(directory)
    before = (directory / "tokenizer.json").read_bytes()
    loaded = Tokenizer.load(directory)
    assert loaded.vocab_size == 259
    loaded.save(directory / "copy")
    assert (directory / "copy" / "tokenizer.json").read_bytes() == before
    assert Tokenizer.load(directory / "tokenizer.model").vocab_size == size


def test_what_is_saved_gives_the_same_ids_in_transformers(directory: Path, tmp_path: Path) -> None:
    ours = Tokenizer.load(directory)
    ours.save(tmp_path / "out")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    for text in TEXTS:
        assert theirs.encode(text, add_special_tokens=False, split_special_tokens=True) == ours.encode(text)
    assert (theirs.bos_token, theirs.eos_token) == ("<s>", "</s>")


def config_of(directory: Path, **config: Any) -> Tokenizer:
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return Tokenizer.load(directory)


def added(content: str, **flags: bool) -> dict[str, Any]:
    names = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {"content": content} | dict.fromkeys(names, False) | flags


def test_tokens_that_were_added_later_are_read_too(directory: Path) -> None:
    declared = {
        "1": added("<s>", special=True),
        "901": added("<|im_end|>", special=True),
        "902": added("<tool>"),
    }
    ours = config_of(directory, added_tokens_decoder=declared, pad_token="</s>")
    assert ours.vocab_size == 903
    assert ours.encode_special("<|im_end|><tool>")[-2:] == [901, 902]
    assert 901 not in ours.encode("<|im_end|>")
    assert ours.config["pad_token"] == "</s>"
    (directory / "added_tokens.json").write_text('{"[NEW]": 905}')
    assert config_of(directory).token_id("[NEW]") == 905


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"5": added("<s>")}, "the id 5 is '<0x01>', not '<s>'"),
        ({"900": {"content": "x"}}, "broken: KeyError 'single_word'"),
        ({"x": added("y")}, "broken: ValueError"),
        ([1], "broken: AttributeError"),
    ],
)
def test_added_tokens_that_contradict_the_vocabulary_are_refused(
    directory: Path, declared: Any, message: str
) -> None:
    with pytest.raises(TokenizerError, match=message):
        config_of(directory, added_tokens_decoder=declared)


def test_what_cannot_be_read_is_an_error_with_its_name(tmp_path: Path) -> None:
    for name in ("tokenizer.model", "tekken.json", "vocab.txt", "vocab.json", "x.tiktoken"):
        file = tmp_path / name
        for content in (b"", b"\x00", b"{}", "한국".encode("cp949")):
            file.write_bytes(content)
            with pytest.raises(TokenizerError, match=name) as caught:
                Tokenizer.load(file)
            assert str(caught.value).count(str(file)) == 1
        file.unlink()
    with pytest.raises(TokenizerError, match="nowhere does not exist"):
        Tokenizer.load(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["a", "a.txt", "a.tiktoken"])
def test_a_name_that_is_part_of_any_message_is_said_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for content in (b"", b"a", b"\xff"):
        Path(name).write_bytes(content)
        with pytest.raises(TokenizerError, match=rf"^{name}(:| is not UTF-8)"):
            Tokenizer.load(name)
        with pytest.raises(TokenizerError, match=rf"^{name}(:| is not UTF-8)"):
            Tokenizer.convert(name, encoding="none")
    with pytest.raises(TokenizerError, match="^cannot read b: "):
        Tokenizer.convert("b")


def gpt2(directory: Path, **config: str) -> Path:
    """Trained by the `tokenizers` library; with `tokenizer_class` the same files are another model's."""
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator(
        [KOREAN] * 3, trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, show_progress=False)
    )
    trained.model.save(str(directory))
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


def bert(directory: Path) -> Path:
    trained = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    trained.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    trained.train_from_iterator([KOREAN] * 3, trainer)
    trained.model.save(str(directory))
    (directory / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    return directory


@pytest.mark.parametrize(
    "made",
    [
        lambda _: MISTRAL / "tokenizer.model.v1",
        pytest.param(lambda _: MISTRAL / "tekken_240911.json", marks=pytest.mark.slow),
        gpt2,
        bert,
    ],
    ids=["SentencePiece", "Tekken", "GPT-2", "BERT"],
)
def test_decomposed_hangul_costs_no_more_behind_a_chat_format(
    made: Callable[[Path], Path], tmp_path: Path
) -> None:
    """An imported tokenizer is exact, so NFC is the renderer's work: without it text is long, or unknown."""
    tokenizer = Tokenizer.load(made(tmp_path))
    composed, decomposed = (rendered(tokenizer, form) for form in ("NFC", "NFD"))
    assert decomposed == composed
    exact = tokenizer.encode(unicodedata.normalize("NFD", KOREAN))
    assert len(exact) > 2 * len(composed) or tokenizer.token_id("[UNK]") in exact
    assert tokenizer.token_id("[UNK]") not in composed


def test_decomposed_hangul_costs_no_more_where_the_files_normalise_it_themselves(tmp_path: Path) -> None:
    """Qwen's files are GPT-2's, and its program composes letters before it cuts words."""
    tokenizer = Tokenizer.load(gpt2(tmp_path, tokenizer_class="Qwen2Tokenizer"))
    assert rendered(tokenizer, "NFD") == rendered(tokenizer, "NFC")
    assert tokenizer.encode(unicodedata.normalize("NFD", KOREAN)) == tokenizer.encode(KOREAN)


def rendered(tokenizer: Tokenizer, form: Literal["NFC", "NFD"]) -> list[int]:
    template = ChatTemplate("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    said = [{"role": "user", "content": unicodedata.normalize(form, KOREAN)}]
    return template.render(said, tokenizer, add_generation_prompt=True).ids


def test_a_model_directory_with_a_sentencepiece_file_only_is_loaded(directory: Path) -> None:
    save_model(tiny_llama(), directory)
    llm = load(directory)
    assert llm.tokenizer.encode(KOREAN) == Tokenizer.load(directory).encode(KOREAN)
    assert llm.tokenizer.config["eos_token"] == "</s>"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["tokenizer", "import", *arguments])
    return int(left.value.code or 0)


def test_the_command_writes_a_tokenizer_json(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(str(directory), "--out", str(out)) == 0
    assert "tokens, 4 of them special" in capsys.readouterr().out
    assert Tokenizer.load(out).encode(KOREAN) == Tokenizer.load(directory).encode(KOREAN)
    assert run(str(out), "--out", str(tmp_path / "again")) == 0
    assert (tmp_path / "again/tokenizer.json").read_bytes() == (out / "tokenizer.json").read_bytes()


def test_the_command_refuses_a_file_that_states_other_ids_than_it_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(ByteTokenizer().backend.to_str())
    content["added_tokens"].append(content["added_tokens"][0] | {"id": 300, "content": "<x>"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert run(str(tmp_path), "--out", str(tmp_path / "out")) == 2
    assert "states the id 300 for the added token '<x>', but it is loaded as 259" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_is_wrong_and_writes_nothing(
    directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert run(str(directory), "--out", out, "--encoding", "llama3") == 2
    assert "is for files of tiktoken" in capsys.readouterr().err
    (directory / "tokenizer.model").write_bytes(model()[:1000])
    assert run(str(directory), "--out", out) == 2
    assert "a field of" in capsys.readouterr().err
    assert not Path(out).exists()
