"""vocab.txt, against `transformers`."""

import json
from pathlib import Path

import pytest
import transformers
from hypothesis import example, given

from malmoi.core.errors import TokenizerError
from malmoi.text.tokenizer import Tokenizer

from .samples import ANY_TEXT, MIXED_TEXT, TEXTS

PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdefghilnoprstuvwxyz가나는다말모에온이일학교.!?,'",
]
PIECES += [f"##{piece}" for piece in "abcdefghilnoprstuvwxyz가나는다말모에온이일학교"] + [
    "학교",
    "##에",
    "말",
    "it",
    "don",
]


def write(directory: Path, pieces: list[str], **config: object) -> Path:
    (directory / "vocab.txt").write_text("".join(f"{piece}\n" for piece in dict.fromkeys(pieces)), "utf-8")
    if config:
        (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


@pytest.mark.parametrize("is_lower", [True, False])
def test_it_gives_the_ids_of_transformers(tmp_path: Path, is_lower: bool) -> None:
    write(tmp_path, PIECES, do_lower_case=is_lower, tokenizer_class="BertTokenizer")
    ours, theirs = Tokenizer.load(tmp_path), transformers.BertTokenizer.from_pretrained(tmp_path)

    @given(ANY_TEXT | MIXED_TEXT)
    @example("[SEP]")
    def on_any_text(text: str) -> None:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False, split_special_tokens=True)

    on_any_text()
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
    framed = theirs("나는", "학교에")
    assert ours.encode_framed("나는", "학교에") == (framed["input_ids"], framed["token_type_ids"])
    assert ours.config["mask_token"] == "[MASK]"


def test_capital_letters_in_the_vocabulary_say_that_case_is_kept(tmp_path: Path) -> None:
    lowered = Tokenizer.load(write(tmp_path, PIECES))
    assert lowered.encode("IT") == lowered.encode("it")
    cased = Tokenizer.load(write(tmp_path, [*PIECES, "I"]))
    assert cased.encode("I") == [cased.vocab_size - 1]


def test_a_control_token_that_is_typed_is_text(tmp_path: Path) -> None:
    ours = Tokenizer.load(write(tmp_path, PIECES))
    assert ours.special_tokens["[SEP]"] not in ours.encode("[SEP]")


@pytest.mark.parametrize(
    ("pieces", "message"), [(["[UNK]", "[CLS]", "a"], r"no line '\[SEP\]'"), ([*PIECES, "", "a"], "")]
)
def test_a_file_without_what_bert_needs_is_refused(tmp_path: Path, pieces: list[str], message: str) -> None:
    write(tmp_path, pieces)
    if message:
        with pytest.raises(TokenizerError, match=message):
            Tokenizer.load(tmp_path)
    with (tmp_path / "vocab.txt").open("a", encoding="utf-8") as file:
        file.write("a\n[SEP]\n")
    with pytest.raises(TokenizerError, match=r"'a' stands in the lines \d+ and \d+"):
        Tokenizer.load(tmp_path)
