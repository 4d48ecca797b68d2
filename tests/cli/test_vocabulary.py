import json
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest

from malmoi.cli.main import main
from malmoi.cli.tokenizer.shown import shown
from malmoi.models import load_model, save_model
from malmoi.testing.full_disk import disk_with_room_for
from malmoi.testing.models import tiny_llama
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training import train_bpe

LINE = "말모이는 말을 모으는 일이다. 나는 학교에 가고, 너는 학교에서 온다."


def run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as left:
        main([*map(str, arguments)])
    return int(left.value.code or 0)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = [{"text": f"{LINE} {number}", "ko": LINE, "source": str(number)} for number in range(600)]
    file = tmp_path / "corpus.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    return file


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    save_model(tiny_llama(), directory)
    ByteTokenizer().save(directory)
    generation = {"eos_token_id": [2, 0]}
    (directory / "generation_config.json").write_text(json.dumps(generation), "utf-8")
    return directory


def test_expand_then_resize_gives_a_model_that_costs_less_korean(
    model: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, out = tmp_path / "tokenizer", tmp_path / "resized"
    assert run("tokenizer", "expand", model, "--corpus", corpus, corpus, "--add", 30, "--out", new) == 0
    said = capsys.readouterr().out
    assert "289 tokens, 30 of them new, ids from 259 on" in said
    assert "tokens a syllable" in said
    assert "as much Korean fits" in said
    assert run("resize", model, "--tokenizer", new, "--out", out) == 0
    said = capsys.readouterr().out
    assert "259 -> 289 rows" in said
    assert "259 keep their row, 30 begin as the mean of their pieces, 0 begin as the mean of all" in said
    assert load_model(out).config.vocab_size == Tokenizer.load(out).vocab_size == 289


def test_until_stops_at_the_factor(model: Path, corpus: Path, tmp_path: Path) -> None:
    new = tmp_path / "tokenizer"
    options = ("--until", "2x", "--held-out", f"{corpus}#ko")
    assert run("tokenizer", "expand", model, "--corpus", corpus, *options, "--out", new) == 0
    old, grown = Tokenizer.load(model), Tokenizer.load(new)
    assert len(old.encode(LINE)) / len(grown.encode(LINE)) >= 2


def test_what_is_new_is_shown_piece_by_piece(
    model: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--corpus", corpus, "--add", "10", "--out", tmp_path / "out")
    assert run("tokenizer", "expand", model, *options) == 0
    grown = Tokenizer.load(tmp_path / "out")
    pieces = [shown(grown.token_bytes(i)) for i in range(259, 269)]
    assert f"new: {', '.join(pieces)}\n" in capsys.readouterr().out


def test_a_field_of_the_corpus_may_hold_chat_messages(model: Path, tmp_path: Path) -> None:
    rows = [
        {"text": "no Hangul", "chat": [{"role": "user", "content": LINE}], "source": str(n)} for n in range(9)
    ]
    file = tmp_path / "chats.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    options = (
        "--corpus",
        f"{file}#chat",
        "--held-out",
        f"{file}#chat",
        "--add",
        "9",
        "--out",
        tmp_path / "out",
    )
    assert run("tokenizer", "expand", model, *options) == 0
    assert Tokenizer.load(tmp_path / "out").vocab_size == 268


@pytest.mark.parametrize(
    "command", [("expand", "--add", "5"), ("superwords", "--add", "5"), ("shrink",)], ids=lambda each: each[0]
)
def test_a_corpus_that_is_not_utf_8_is_refused_by_line_or_read_on_if_asked(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    base, out, broken = (tmp_path / name for name in ("base", "out", "broken.jsonl"))
    train_bpe([LINE] * 3, vocab_size=300).save(base)
    broken.write_bytes(corpus.read_bytes() + b'\n{"text": "\xb0\xa1"}\n')
    name, *options = command
    arguments = ("tokenizer", name, base, "--corpus", broken, *options, "--out", out)
    assert run(*arguments) == 2
    assert "broken.jsonl:601: not UTF-8 at byte" in capsys.readouterr().err
    assert not out.exists()
    assert run(*arguments, "--errors", "replace") == 0
    assert Tokenizer.load(out)


@pytest.mark.parametrize("command", [("expand", "--add", "5"), ("superwords", "--add", "5"), ("shrink",)])
@pytest.mark.parametrize("named", ["base", "base/tokenizer.json"])
def test_a_base_is_never_written_over(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], named: str
) -> None:
    base = tmp_path / "base"
    train_bpe([LINE] * 3, vocab_size=300).save(base)
    before = (base / "tokenizer.json").read_bytes()
    name, *options = command
    assert run("tokenizer", name, tmp_path / named, "--corpus", corpus, *options, "--out", base) == 2
    assert "Name another directory with --out" in " ".join(capsys.readouterr().err.split())
    assert (base / "tokenizer.json").read_bytes() == before


MAKING = pytest.mark.parametrize(
    "command",
    [
        ("train", "--vocab-size", "270"),
        ("import",),
        ("expand", "--add", "5"),
        ("superwords", "--add", "5"),
        ("shrink",),
    ],
    ids=lambda each: each[0],
)


def making(command: tuple[str, ...], base: Path, corpus: Path, out: Path) -> tuple[str | Path, ...]:
    """One of the commands that write a tokenizer, with what it makes it of."""
    name, *options = command
    made_of = {"train": (corpus,), "import": (base,)}.get(name, (base, "--corpus", corpus))
    return ("tokenizer", name, *made_of, *options, "--out", out)


@MAKING
@pytest.mark.parametrize(
    "file", ["config.json", "model-00001-of-00002.safetensors", "pytorch_model-1-of-2.bin"]
)
def test_the_tokenizer_of_a_model_is_never_written_over(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], file: str
) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    train_bpe([LINE] * 3, vocab_size=300).save(base)
    ByteTokenizer().save(out)
    before = (out / "tokenizer.json").read_bytes()
    (out / file).touch()
    assert run(*making(command, base, corpus, out)) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"holds a model ({file})" in said
    assert "Name another directory with --out" in said
    assert ("malmoi resize MODEL" in said) == (command[0] != "import")
    assert (out / "tokenizer.json").read_bytes() == before
    (out / file).unlink()  # a directory of an earlier tokenizer is written again
    assert run(*making(command, base, corpus, out)) == 0
    assert (out / "tokenizer.json").read_bytes() != before


@MAKING
@pytest.mark.parametrize(
    "files",
    [
        ("tokenizer.json", "shard.bin"),
        ("tokenizer.json", "train.bin", "val.bin"),
        ("config.json",),
        ("model.safetensors", "tokenizer.model"),
    ],
    ids=" ".join,
)
def test_a_directory_with_no_model_or_no_tokenizer_to_lose_is_written(
    corpus: Path, tmp_path: Path, command: tuple[str, ...], files: tuple[str, ...]
) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    train_bpe([LINE] * 3, vocab_size=300).save(base)
    out.mkdir()
    for file in files:
        (out / file).touch()
    assert run(*making(command, base, corpus, out)) == 0
    assert Tokenizer.load(out / "tokenizer.json").encode(LINE)
    assert all((out / file).exists() for file in files)


@pytest.mark.parametrize("lost", ["nothing", "the end of the vocabulary", "the merges"])
def test_a_models_tokenizer_is_imported_again_where_it_lies_if_the_ids_stay(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], lost: str
) -> None:
    trained = train_bpe([LINE] * 3, vocab_size=300)
    trained.save(model)
    file = model / "tokenizer.json"
    if lost == "nothing":
        file.write_text(json.dumps(json.loads(file.read_text("utf-8")), indent=4), "utf-8")
    elif lost == "the merges":  # so that every id is the same token, but a text has others
        content = json.loads(file.read_text("utf-8"))
        content["model"]["merges"] = []
        file.write_text(json.dumps(content), "utf-8")
    else:
        train_bpe([LINE] * 3, vocab_size=299).save(model)
    before = file.read_bytes()
    trained.save(tmp_path / "again")
    assert run("tokenizer", "import", tmp_path / "again", "--out", model) == (0 if lost == "nothing" else 2)
    assert ("gives other ids" in capsys.readouterr().err) == (lost != "nothing")
    assert (file.read_bytes() == before) == (lost != "nothing")


@MAKING
def test_a_directory_that_cannot_be_written_is_refused_before_anything_is_read(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    base = tmp_path / "base"
    train_bpe([LINE] * 3, vocab_size=300).save(base)
    corpus.write_bytes(b"\xff")
    assert run(*making(command, base, corpus, Path("/proc/none"))) == 2
    assert "cannot write /proc/none/tokenizer.json" in capsys.readouterr().err


@MAKING
def test_a_disk_that_fills_up_leaves_no_directory(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    base, out = tmp_path / "base", tmp_path / "a" / "out"
    train_bpe([LINE] * 3, vocab_size=300).save(base)
    if command[0] == "train":  # whose texts wait in a temporary file, which is to have room
        corpus.write_text("\n".join(corpus.read_text("utf-8").splitlines()[:5]), "utf-8")
        assert corpus.stat().st_size < 3000
    with disk_with_room_for(3000):
        assert run(*making(command, base, corpus, out)) == 2
    assert "Free space on that disk" in capsys.readouterr().err
    assert not out.parent.exists()


def test_while_a_trainer_learns_ctrl_c_ends_the_process_at_once(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def learn(texts: Iterable[str], **options: object) -> Tokenizer:
        assert list(texts)
        seen.append(signal.getsignal(signal.SIGINT))
        return ByteTokenizer()

    monkeypatch.setattr("malmoi.text.training.train_bpe", learn)
    monkeypatch.setattr(
        "malmoi.text.vocabulary.superwords.add_superwords", lambda base, texts, **_: learn(texts)
    )
    out, other = tmp_path / "out", tmp_path / "other"
    assert run("tokenizer", "train", corpus, "--vocab-size", "300", "--out", out) == 0
    options = ("--corpus", corpus, "--add", "3", "--out", other)
    assert run("tokenizer", "superwords", out, *options) == 0
    assert seen == [signal.SIG_DFL] * 2
    assert signal.getsignal(signal.SIGINT) is before


def test_superwords_are_added_to_what_train_made(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, out = tmp_path / "words", tmp_path / "superwords"
    train_bpe([LINE] * 3, vocab_size=300).save(words)
    assert run("tokenizer", "superwords", words, "--corpus", corpus, "--add", 9, "--out", out) == 0
    assert "309 tokens, 9 of them new" in capsys.readouterr().out


def test_shrink_takes_tokens_alone_or_with_the_models_rows(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, alone, out = (tmp_path / name for name in ("big", "alone", "small"))
    save_model(tiny_llama(vocab_size=300), model)
    train_bpe([f"{LINE} Это другой язык, да."] * 3, vocab_size=300).save(model)
    (model / "generation_config.json").write_text(
        json.dumps({"eos_token_id": 2, "pad_token_id": 299}), "utf-8"
    )
    options = ("--corpus", corpus, "--keep-ascii")
    assert run("tokenizer", "shrink", model / "tokenizer.json", *options, "--out", alone) == 0
    assert [path.name for path in sorted(alone.iterdir())] == ["tokenizer.json", "tokenizer_config.json"]
    assert run("tokenizer", "shrink", model, *options, "--out", out) == 0
    assert "MiB of weights" in capsys.readouterr().out
    old, small = Tokenizer.load(model), Tokenizer.load(out)
    assert load_model(out).config.vocab_size == small.vocab_size < 300
    generation = json.loads((out / "generation_config.json").read_text("utf-8"))
    assert small.token_bytes(generation["pad_token_id"]) == old.token_bytes(299)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "either --add N or --until 1.25x"),
        (("--add", "3", "--until", "2x"), "either --add N or --until 1.25x"),
        (("--until", "twice"), "'twice' is not a factor. Write 1.25x"),
        (("--until", "99x"), "Use a smaller factor, or more text"),
        (("--add", "5000"), "or fewer, or more text"),
        (("--add", "99999999999"), "or fewer, or more text"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(
    model: Path,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    out = tmp_path / "out"
    assert run("tokenizer", "expand", model, "--corpus", corpus, *options, "--out", out) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_corpus_of_which_nothing_is_held_out_is_refused_before_it_is_learned(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "small.txt").write_text(LINE, "utf-8")
    arguments = ("--corpus", tmp_path / "small.txt", "--add", 3, "--out", tmp_path / "out")
    assert run("tokenizer", "expand", model, *arguments) == 2
    assert "Name a file of Korean text with --held-out" in " ".join(capsys.readouterr().err.split())


def test_a_tokenizer_that_is_no_expansion_is_refused_with_the_way_out(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, out = tmp_path / "other", tmp_path / "out"
    train_bpe([LINE] * 3, vocab_size=300, special_tokens=("<|im_end|>",)).save(other)
    assert run("resize", model, "--tokenizer", other, "--out", out) == 2
    assert "Use --init align" in capsys.readouterr().err
    assert run("resize", model, "--tokenizer", other, "--init", "align", "--out", out) == 0
    assert "generation_config.json lost eos_token_id" in capsys.readouterr().out
    assert Tokenizer.load(out).vocab_size == load_model(out).config.vocab_size == 300


def test_the_inits_of_the_command_are_those_of_the_library() -> None:
    from malmoi.adapt import INITS
    from malmoi.cli.resize import _INITS

    assert _INITS == INITS
