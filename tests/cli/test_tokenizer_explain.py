"""`malmoi tokenizer explain`: its lines, for models small enough to follow by hand."""

import io
import sys
from pathlib import Path

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from malmoi.cli.main import main
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training import train_bpe


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["tokenizer", "explain", *arguments])
    return int(left.value.code or 0)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


@pytest.fixture
def trained(tmp_path: Path) -> str:
    """Three merges: the first two bytes of 한, all of it, and 한한."""
    train_bpe(["한한한 국"], vocab_size=262).save(tmp_path)
    return str(tmp_path)


@pytest.fixture
def unigram(tmp_path: Path) -> str:
    pieces = [("<unk>", 0.0), ("▁", -2.0), ("▁한", -3.0), ("한", -4.0), ("국", -4.0), ("한국", -6.0)]
    made = tokenizers.Tokenizer(models.Unigram(pieces, 0, False))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    Tokenizer(made.to_str()).save(tmp_path)
    return str(tmp_path)


def test_each_merge_of_a_bpe_is_a_line(trained: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("한한 한국.", "--tokenizer", trained) == 0
    ids = iter(map(str, Tokenizer.load(trained).encode("한한 한국.")))
    assert lines(capsys)[:-1] == [
        f"한한 → {next(ids)}",
        "한<ed|95|9c> 한<ed|95|9c>",
        "#1  한<ed 95|9c> 한<ed|95|9c>",
        "#1  한<ed 95|9c> 한<ed 95|9c>",
        "#2  한 한<ed 95|9c>",
        "#2  한 한",
        "#3  한한",
        f"␣ 한 국<ea|b5|ad> → {' '.join(next(ids) for _ in range(5))}",
        "␣ 한<ed|95|9c> 국<ea|b5|ad>",
        "#1  ␣ 한<ed 95|9c> 국<ea|b5|ad>",
        "#2  ␣ 한 국<ea|b5|ad>",
        f". → {next(ids)}",
    ]


def test_the_ways_to_cut_a_unigrams_word_have_their_share_of_all(
    unigram: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("한국 말", "--tokenizer", unigram) == 0
    assert lines(capsys) == [
        "␣한 국 → 2 4",
        # of e^-7 (▁한 국), e^-8 (▁ 한국) and e^-10 (▁ 한 국)
        "70.5 %  -7.00 = ␣한 (-3.00) + 국 (-4.00)",
        "25.9 %  -8.00 = ␣ (-2.00) + 한국 (-6.00)",
        "␣ 말 → 1 0",
        "100 %  -18.00 = ␣ (-2.00) + 말 (unknown, -16.00)",
        "4 tokens, 10 bytes, 3 syllables; 2.50 bytes a token; 1.33 tokens a syllable",
    ]


def test_merges_are_shown_while_they_are_learned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.txt"
    file.write_text("한한한 국", "utf-8")
    assert run("한국", "--train", str(file), "--merges", "3") == 0
    assert lines(capsys)[:4] == [
        "#1  <ed> + <95> = <ed 95>, 3 times",
        "#2  <ed 95> + <9c> = 한, 3 times",
        "#3  한 + 한 = 한한, 2 times",
        "한 국<ea|b5|ad> → 257 166 113 255",
    ]
    assert run("한", "--train", str(file), "--merges", "99") == 0
    assert len([line for line in lines(capsys) if "times" in line]) == 7


def test_learning_stops_at_bytes_that_are_not_utf8_unless_told_to_replace_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("한한한\n".encode() + b"\xff\xff\xff\xff\n")
    learn = ("한국", "--train", str(file), "--merges", "3")
    assert run(*learn) == 2
    printed = capsys.readouterr()
    assert f"{file}:2: not UTF-8 at byte 10" in printed.err
    assert not printed.out
    assert run(*learn, "--errors", "replace") == 0
    assert lines(capsys)[:3] == [  # U+FFFD is EF BF BD
        "#1  <bf> + <bd> = <bf bd>, 4 times",
        "#2  <ef> + <bf bd> = \ufffd, 4 times",
        "#3  <ed> + <95> = <ed 95>, 3 times",
    ]


def test_what_is_said_of_a_file_needs_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    for option in (("--errors", "replace"), ("--merges", "3")):
        assert run("한국", *option) == 2
        assert f"{option[0]} is about the file to learn from" in capsys.readouterr().err


def test_an_added_token_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tokenizers.Tokenizer.from_str(train_bpe(["a"], vocab_size=259).backend.to_str())
    made.add_tokens(["<think>"])
    Tokenizer(made.to_str()).save(tmp_path)
    assert run("<think>a", "--tokenizer", str(tmp_path)) == 0
    assert lines(capsys)[:3] == ["<think> → 259", "added  found before anything is cut", "a → 67"]


def test_standard_input_is_a_text_too(
    trained: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n")))
    assert run("-", "--tokenizer", trained) == 0
    assert lines(capsys)[0] == "a → 67"


def test_what_cannot_be_explained_is_said_with_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tokenizers.Tokenizer(models.BPE({"_": 0, "a": 1, "b": 2}, []))
    made.normalizer = normalizers.Prepend("_")
    made.add_tokens([AddedToken("b", normalized=True)])
    Tokenizer(made.to_str()).save(tmp_path)
    assert run("a", "--tokenizer", str(tmp_path)) == 0
    assert run("aba", "--tokenizer", str(tmp_path)) == 2
    assert "looks for added tokens after normalising" in capsys.readouterr().err
    assert run("a", "--tokenizer", str(tmp_path), "--train", "a.txt") == 2
    assert "Give one of the two" in capsys.readouterr().err
    assert run("a", "--train", "nowhere.txt") == 2
    assert "nowhere.txt" in capsys.readouterr().err
    (tmp_path / "empty.txt").touch()
    assert run("a", "--train", str(tmp_path / "empty.txt")) == 2
    assert "has no pair of bytes to merge" in capsys.readouterr().err
