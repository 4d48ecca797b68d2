import io
import json
import sys
from pathlib import Path

import pytest

from malmoi.cli.main import main
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.tokenizer import Tokenizer

LINE = "말모이는 말을 모으는 일이다. 나는 학교에 가고, 너는 학교에서 온다."


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["tokenizer", *arguments])
    return int(left.value.code or 0)


@pytest.fixture
def saved(tmp_path: Path) -> str:
    ByteTokenizer().save(tmp_path)
    return str(tmp_path)


def test_train_writes_what_load_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text(LINE, "utf-8")
    rows = [json.dumps({"text": f"{LINE} {number}", "source": str(number)}) for number in range(300)]
    (tmp_path / "b.jsonl").write_text("\n".join(rows), "utf-8")
    files = [str(tmp_path / name) for name in ("a.txt", "b.jsonl")]
    assert run("train", "--vocab-size", "290", "--out", str(tmp_path / "out"), *files) == 0
    assert Tokenizer.load(tmp_path / "out").vocab_size == 290
    said = capsys.readouterr().out
    assert "290 tokens, 3 of them special" in said
    assert "tokens a syllable" in said


def test_train_makes_the_tokenizer_of_an_encoder(tmp_path: Path) -> None:
    rows = [json.dumps({"text": f"{LINE} {number}", "source": str(number)}) for number in range(300)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows), "utf-8")
    assert (
        run(
            "train",
            "--encoder",
            "--vocab-size",
            "290",
            "--out",
            str(tmp_path / "out"),
            str(tmp_path / "a.jsonl"),
        )
        == 0
    )
    ids, _ = Tokenizer.load(tmp_path / "out").encode_framed(LINE)
    assert (ids[0], ids[-1]) == (1, 2)


def test_train_makes_the_tokenizer_of_an_encoder_decoder(tmp_path: Path) -> None:
    rows = [json.dumps({"text": f"{LINE} {number}", "source": str(number)}) for number in range(300)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows), "utf-8")
    options = ("--vocab-size", "380", "--out", str(tmp_path / "out"), str(tmp_path / "a.jsonl"))
    assert run("train", "--text-to-text", *options) == 0
    made = Tokenizer.load(tmp_path / "out")
    ids, _ = made.encode_framed(LINE)
    assert ids[-1] == made.token_id("</s>") == 1
    assert (made.token_id("<extra_id_0>"), made.token_id("<extra_id_99>")) == (3, 102)
    assert (made.config["pad_token"], made.config["mask_token"]) == ("<pad>", "<mask>")


def test_train_reads_the_messages_of_chats(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": LINE}, {"role": "assistant", "content": LINE}]}
    file = tmp_path / "chat.jsonl"
    file.write_text("\n".join(json.dumps(row | {"source": str(i)}) for i in range(20)), "utf-8")
    options = ("--vocab-size", "280", "--out", str(tmp_path / "out"), str(file))
    assert run("train", *options) == 2
    assert not (tmp_path / "out").exists()
    assert run("train", "--messages-field", "messages", *options) == 0


def test_encode_shows_a_token_a_line_and_what_it_costs(
    saved: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("encode", "한 a", "--tokenizer", saved) == 0
    *tokens, summary = capsys.readouterr().out.splitlines()
    assert [token.split() for token in tokens] == [
        ["240", "<ed>"], ["152", "<95>"], ["159", "<9c>"], ["35", "␣"], ["100", "a"],
    ]  # fmt: skip
    assert summary == "5 tokens, 5 bytes, 1 syllables; 1.00 bytes a token; 5.00 tokens a syllable"


def test_decode_undoes_encode(
    saved: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "한국어 <|im_end|>\n끝"
    assert run("encode", "--ids", text, "--tokenizer", saved) == 0
    ids = capsys.readouterr().out
    assert run("decode", *ids.split(), "--tokenizer", saved) == 0
    assert capsys.readouterr().out == text + "\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ids.encode())))
    assert run("decode", "-", "--tokenizer", saved) == 0
    assert capsys.readouterr().out == text + "\n"


def test_special_strings_are_special_only_when_asked(saved: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("encode", "--ids", "<|im_end|>", "--tokenizer", saved) == 0
    assert len(capsys.readouterr().out.split()) == 10
    assert run("encode", "--ids", "--special", "<|im_end|>", "--tokenizer", saved) == 0
    assert capsys.readouterr().out == "2\n"
    assert run("decode", "2", "100", "--skip-special", "--tokenizer", saved) == 0
    assert capsys.readouterr().out == "a\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("encode", "가", "--tokenizer", "nowhere"), "nowhere does not exist"),
        (("decode", "999"), "id 999 is outside of the vocabulary, 0 to 258"),
        (("decode", "3.5"), "invalid literal"),
        (("train", "--vocab-size", "300", "--out", "out", "nowhere.txt"), "nowhere.txt"),
        (("train", "--vocab-size", "300", "--out", "out", "cp949.txt"), "not UTF-8"),
        (("train", "--vocab-size", "9", "--out", "out", "cp949.txt"), "vocab_size=9"),
        (("train", "--vocab-size", "99999999999", "--out", "out", "cp949.txt"), "Use 16777216 or fewer"),
        (("train", "--vocab-size", "300", "--out", "cp949.txt", "cp949.txt"), "is a file"),
        (("train", "--vocab-size", "300", "--out", "out"), "FILE"),
    ],
)
def test_what_is_wrong_is_said_with_exit_code_2(
    arguments: tuple[str, ...],
    message: str,
    saved: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(saved)
    Path("cp949.txt").write_bytes("한국어".encode("cp949"))
    if arguments[0] == "decode":
        arguments = (*arguments, "--tokenizer", saved)
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("options", "vocab_size"),
    [
        (["--algorithm", "unigram"], 374),
        (["--algorithm", "wordpiece"], 240),
        (["--algorithm", "word"], 20),
        (["--algorithm", "char"], 370),
        (["--algorithm", "jamo"], 473),
        (["--algorithm", "morpheme"], 290),
        (["--character-level"], 390),
        (["--pattern", "compact"], 290),
        (["--algorithm", "wordpiece", "--encoder"], 240),
    ],
)
def test_train_learns_by_every_algorithm(options: list[str], vocab_size: int, tmp_path: Path) -> None:
    rows = [json.dumps({"text": f"{LINE} {number}", "source": str(number)}) for number in range(100)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows), "utf-8")
    out = ("--vocab-size", str(vocab_size), "--out", str(tmp_path / "out"), str(tmp_path / "a.jsonl"))
    assert run("train", *options, *out) == 0
    assert Tokenizer.load(tmp_path / "out").vocab_size == vocab_size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--algorithm", "jamo", "--character-level"], "a choice of bpe, not of jamo"),
        (["--algorithm", "word", "--pattern", "compact"], "--pattern compact is for"),
        (["--character-level", "--pattern", "compact"], "--pattern compact is for"),
    ],
)
def test_train_refuses_a_choice_that_the_algorithm_does_not_have(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text(LINE, "utf-8")
    out = ("--vocab-size", "300", "--out", str(tmp_path / "out"), str(tmp_path / "a.txt"))
    assert run("train", *options, *out) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options", [["259"], ["355", "--algorithm", "char"], ["356", "--algorithm", "unigram"]]
)
def test_train_names_the_files_that_have_no_text(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("empty.txt", "blank.txt"):
        Path(file).write_text("" if file == "empty.txt" else " \n\n", "utf-8")
    assert run("train", "--vocab-size", *options, "--out", "out", "empty.txt") == 2
    assert "no text to learn from in empty.txt, apart from what is held out" in capsys.readouterr().err
    assert run("train", "--vocab-size", *options, "--out", "out", "empty.txt", "blank.txt") == 2
    assert "no text to learn from in empty.txt and the others" in capsys.readouterr().err
    assert not Path("out").exists()


def test_train_stops_at_bytes_that_are_not_utf8_unless_told_to_replace_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [json.dumps({"text": f"{LINE} {number}"}, ensure_ascii=False).encode() for number in range(100)]
    lines[1] = lines[1].replace("학교에".encode(), "학교에".encode("cp949"))
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"\n".join(lines))
    options = ("--vocab-size", "290", "--out", str(tmp_path / "out"), str(file))
    assert run("train", *options) == 2
    said = capsys.readouterr().err
    assert (
        f"{file}:2: not UTF-8 at byte {len(lines[0]) + 1 + lines[1].index('학교에'.encode('cp949'))}" in said
    )
    assert not (tmp_path / "out").exists()
    assert run("train", "--errors", "replace", *options) == 0
    assert Tokenizer.load(tmp_path / "out").vocab_size == 290
