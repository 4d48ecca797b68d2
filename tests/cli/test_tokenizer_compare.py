import csv
import json
import os
import sys
from pathlib import Path

import pytest

from malmoi.cli.main import main
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.training import train_bpe

NEWS = ["말모이는 우리말을 모으는 일이다.", "나는 학교에 가고, 너는 학교에서 온다."]
CHAT = {
    "messages": [
        {"role": "user", "content": "안녕하세요? 뭐 해요?"},
        {"role": "assistant", "content": "책 읽어요."},
    ]
}
PAIR = {"ko": "나는 학교에 간다.", "en": "I go to school.", "source": "school:1"}
GOLD = {
    "text": "나는 학교에 간다.",
    "tokens": [["나는", "나+는"], ["학교에", "학교+에"], ["간다", "가+ㄴ다"]],
}
PRICES = """
[exchange]
won_per_dollar = 1000
date = 2025-01-02
source = "a bank"

[[price]]
model = "mine"
input = 1.0
output = 2.0
date = 2025-01-01
source = "me"
tokenizers = ["*"]
"""


def write_rows(path: str, rows: list[dict[str, object]]) -> None:
    Path(path).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with two tokenizers and a file of each kind."""
    monkeypatch.chdir(tmp_path)
    ByteTokenizer().save("bytes")
    train_bpe(NEWS * 3, vocab_size=290).save("trained")
    sources = ["wiki:a", "wiki:b", "docs:c"]
    write_rows("news.jsonl", [{"text": f"{NEWS[0]} {s}", "source": s} for s in sources])
    write_rows("chat.jsonl", [CHAT])
    write_rows("pairs.jsonl", [PAIR])
    write_rows("gold.jsonl", [GOLD])
    Path("book.txt").write_text("\n".join(NEWS), "utf-8")
    Path("prices.toml").write_text(PRICES, "utf-8")
    return tmp_path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["tokenizer", "compare", *arguments])
    return int(left.value.code or 0)


def figures(*arguments: str) -> dict[str, dict[str, object]]:
    """What the JSON file says, by the name of the tokenizer, and the genres under "genres"."""
    assert run(*arguments, "--morphemes", "gold.jsonl", "--json", "out.json") == 0
    content = json.loads(Path("out.json").read_text("utf-8"))
    named: dict[str, dict[str, object]] = {one["name"]: one for one in content["tokenizers"]}
    return named | {"genres": {genre["name"]: genre for genre in content["genres"]}}


def test_several_tokenizers_and_files_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run("bytes", "[ours]=trained", "--text", "news.jsonl", "[책]=book.txt", "--morphemes", "gold.jsonl")
        == 0
    )
    said = capsys.readouterr().out
    assert "tokens a syllable" in said
    for name in (
        "bytes",
        "[ours]",
        "news",
        "[책]",
        "one dollar a million",
        "by gold.jsonl: 3 words",
    ):
        assert name in said


def test_a_page_and_the_files_for_programs_are_written(directory: Path) -> None:
    outputs = ("--html", "out/a.html", "--csv", "out/a.csv", "--json", "out/a.json")
    assert run("bytes", "--text", "book.txt", "--morphemes", "gold.jsonl", *outputs) == 0
    assert sorted(os.listdir("out")) == ["a.csv", "a.html", "a.json"]
    assert Path("out/a.html").read_text("utf-8").startswith("<!doctype html>")
    with open("out/a.csv", encoding="utf-8-sig") as file:
        assert {row["tokenizer"] for row in csv.DictReader(file)} == {"bytes"}


def test_files_that_cannot_be_written_are_refused_before_anything_is_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    outputs = ("--html", "new/out.html", "--csv", "/proc/none.csv", "--json", "out.json")
    assert run("bytes", "--text", "none.txt", *outputs) == 2
    assert "cannot write /proc/none.csv" in capsys.readouterr().err
    assert not Path("new").exists()


def test_the_field_of_a_file_holds_a_text_or_a_chat() -> None:
    found = figures("bytes", "--text", "chat.jsonl#messages", "said=pairs.jsonl#ko", "news.jsonl")
    assert list(found["genres"]) == ["chat", "said", "news"]
    contents = [message["content"] for message in CHAT["messages"]]
    assert found["genres"]["chat"]["num_bytes"] == sum(len(text.encode()) for text in contents)  # type: ignore[index]
    assert figures("bytes", "--text", "pairs.jsonl", "--field", "en")["genres"]["pairs"]["is_korean"] is False  # type: ignore[index]


def test_a_genre_is_a_file_or_a_value_of_a_field() -> None:
    assert list(figures("bytes", "--text", "news.jsonl")["genres"]) == ["news"]
    assert list(figures("bytes", "--text", "news.jsonl", "--by", "source")["genres"]) == ["wiki", "docs"]


def test_a_sample_has_the_stated_size_and_is_the_same_each_time() -> None:
    write_rows("many.jsonl", [{"text": f"{number}번째 글이다."} for number in range(500)])
    first = figures("bytes", "--text", "many.jsonl", "--sample-bytes", "1000")
    assert 1000 <= first["genres"]["many"]["num_bytes"] < 1030  # type: ignore[index]
    assert figures("bytes", "--text", "many.jsonl", "--sample-bytes", "1000") == first


def test_only_what_training_holds_out_is_measured_if_asked() -> None:
    write_rows(
        "many.jsonl", [{"text": f"{number}번째 글이다.", "source": str(number)} for number in range(2000)]
    )
    held_out = figures("bytes", "--text", "many.jsonl", "--held-out")["genres"]["many"]
    assert 1 <= held_out["num_texts"] < 30  # type: ignore[index]
    assert figures("bytes", "--text", "many.jsonl")["genres"]["many"]["num_texts"] == 2000  # type: ignore[index]


def test_parallel_text_gives_the_surcharge_and_a_genre() -> None:
    found = figures("bytes", "--parallel", "pairs.jsonl")
    assert found["bytes"]["parallel"] == {"num_korean": 24, "num_english": 15, "ratio": 1.6}
    assert list(found["genres"]) == ["pairs"]


def test_a_table_of_prices_of_ones_own_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    found = figures("bytes", "--text", "book.txt", "--prices", "prices.toml")["bytes"]
    rate = found["korean"]["tokens_per_syllable"]  # type: ignore[index]
    bill = found["bills"]["mine"]  # type: ignore[index]
    assert bill["won_input"] == pytest.approx(rate)
    assert bill["won_output"] == pytest.approx(2 * rate)
    assert "prices.toml" in capsys.readouterr().out


@pytest.mark.slow
def test_morphemes_are_compared_without_a_treebank_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bytes", "--text", "book.txt") == 0
    assert "by kiwipiepy: 10 words" in capsys.readouterr().out


def test_without_an_analyser_the_rest_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kiwipiepy", None)
    assert run("bytes", "--text", "book.txt") == 0
    assert "pip install 'malmoi[morphemes]'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bytes",), "nothing to measure"),
        (("--text", "book.txt", "bytes"), "Missing argument 'TOKENIZER...'"),
        (("nowhere", "--text", "book.txt"), "nowhere"),
        (("bytes", "bytes", "--text", "book.txt"), "both called 'bytes'. Write NAME=bytes"),
        (("bytes", "--text", "book.txt", "a/../book.txt"), "both called 'book.txt'"),
        (("bytes", "--text", "news.jsonl", "news.txt"), "two files are called 'news'"),
        (("bytes", "--text", "news.jsonl", "--parallel", "news=pairs.jsonl"), "two genres are called 'news'"),
        (("bytes", "--text", "none.txt"), "no such file or directory: none.txt"),
        (("bytes", "--text", "cp949.txt"), "not UTF-8"),
        (("bytes", "--text", "empty.txt"), "the genre empty has no text"),
        (("bytes", "--text", "news.jsonl#body"), "text_field='body' is absent"),
        (("bytes", "--text", "book.txt", "--by", "source"), "book.txt is plain text, but rows"),
        (
            ("bytes", "--text", "pairs.jsonl#ko", "--by", "kind"),
            "the field 'kind', which is to tell the genre",
        ),
        (("bytes", "--text", "many.jsonl", "--by", "source"), "has more than 40 values"),
        (("bytes", "--parallel", "news.jsonl"), "a row of parallel text has the texts ko and en"),
        (("bytes", "--parallel", "empty.jsonl"), "empty.jsonl has no rows"),
        (("bytes", "--text", "book.txt", "--morphemes", "news.jsonl"), "a row with morphemes has a text"),
        (("bytes", "--text", "book.txt", "--morphemes", "empty.jsonl"), "empty.jsonl has no rows"),
        (("bytes", "--text", "book.txt", "--prices", "book.txt"), "book.txt is not TOML"),
        (
            ("bytes", "--text", "chat.jsonl#messages", "--held-out"),
            "has no held-out text. Leave out --held-out",
        ),
    ],
)
def test_what_is_wrong_is_said_with_exit_code_2(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("cp949.txt").write_bytes("한국어".encode("cp949"))
    Path("news.txt").write_text("가", "utf-8")
    Path("empty.txt").touch()
    Path("empty.jsonl").touch()
    write_rows("many.jsonl", [{"text": "가", "source": str(number)} for number in range(41)])
    assert run(*arguments, "--html", "out.html") == 2
    assert message in capsys.readouterr().err
    assert not Path("out.html").exists()
