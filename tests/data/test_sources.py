import tracemalloc
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from malmoi.core.errors import ConfigError, DataError
from malmoi.data.documents import Conversation, Text, pieces
from malmoi.data.sources import SourceConfig, _split_of, iterate_texts, read_documents

CHAT = [{"role": "user", "content": "안녕"}, {"role": "assistant", "content": "반가워요"}]


def texts(source: SourceConfig, **options) -> list[str]:
    return [document.text for document in read_documents(source, **options)]


@given(st.lists(st.text("가 \nA", max_size=30)), st.integers(1, 12))
def test_pieces_join_to_the_text_and_keep_the_limit(chunks: list[str], limit: int) -> None:
    found = list(pieces(chunks, limit))
    assert "".join(text for text, _ in found) == "".join(chunks)
    assert [is_last for _, is_last in found] == [False] * (len(found) - 1) + [True]
    assert all(len(text) <= limit for text, _ in found)


def test_a_long_text_is_cut_at_the_end_of_a_line_else_of_a_word() -> None:
    assert [text for text, _ in pieces(["가나\n다라 마바사아자차"], 5)] == [
        "가나\n",
        "다라 ",
        "마바사아자",
        "차",
    ]


def test_only_the_first_piece_is_a_start_and_only_the_last_an_end(write_rows) -> None:
    source = SourceConfig(path=write_rows(["가" * 25]), max_characters=10, holdout_permille=0)
    assert [(d.is_start, d.is_end, len(d.text)) for d in read_documents(source)] == [
        (True, False, 10),
        (False, False, 10),
        (False, True, 5),
    ]


def test_a_text_file_is_one_document_and_blank_lines_stay_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("첫 문단\n\n둘째 문단\n", "utf-8")
    source = SourceConfig(path=str(tmp_path), holdout_permille=0)
    assert list(read_documents(source)) == [Text(text="첫 문단\n\n둘째 문단\n", where=f"{tmp_path}/a.txt#0")]


def test_a_large_text_file_is_read_in_bounded_memory(tmp_path: Path) -> None:
    line = "한 줄은 스무 글자쯤이면 됩니다. " * 8 + "\n"
    with (tmp_path / "large.txt").open("w", encoding="utf-8") as file:
        file.writelines(line for _ in range(30_000))
    source = SourceConfig(path=str(tmp_path), holdout_permille=0)
    tracemalloc.start()
    num_characters = sum(len(document.text) for document in read_documents(source))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_characters == 30_000 * len(line)
    assert peak < 2_000_000 < (tmp_path / "large.txt").stat().st_size / 4


def test_format_makes_one_text_of_several_fields(write_rows) -> None:
    path = write_rows([{"ko": "바다", "en": "sea"}])
    assert texts(SourceConfig(path=path, format="{ko}\n{en}", holdout_permille=0)) == ["바다\nsea"]


def test_messages_field_makes_conversations(write_rows) -> None:
    source = SourceConfig(
        path=write_rows([{"messages": CHAT}]), messages_field="messages", holdout_permille=0
    )
    assert list(read_documents(source)) == [Conversation(messages=tuple(CHAT), where=f"{source.path}:1")]
    assert list(iterate_texts(source)) == ["안녕", "반가워요"]


def test_filters_match_prefixes_of_source_or_of_a_named_field(write_rows) -> None:
    rows = [
        {"text": "위키", "source": "ko.wikipedia.org:바다", "kind": "prose"},
        {"text": "성경", "source": "bible:1", "kind": "prose"},
        {"text": "제목", "source": "ko.wikipedia.org:산", "kind": "title"},
        {"text": "출처 없음"},
        {"text": "식", "source": "math:E=mc²"},
    ]
    path = write_rows(rows)

    def kept(**filters: tuple[str, ...]) -> list[str]:
        return texts(SourceConfig(path=path, holdout_permille=0, **filters))

    assert kept(include=("ko.wiki",)) == ["위키", "제목"]
    assert kept(exclude=("bible", "kind=title")) == ["위키", "출처 없음", "식"]
    assert kept(include=("math:E=mc",)) == ["식"]
    assert kept(include=("ko.wiki", "bible"), exclude=("kind=title",)) == ["위키", "성경"]


def test_blank_texts_are_skipped(write_rows) -> None:
    assert texts(SourceConfig(path=write_rows(["", " \n", "가"]), holdout_permille=0)) == ["가"]


def test_train_and_held_out_are_disjoint_complete_and_about_the_size_asked(write_rows) -> None:
    source = SourceConfig(path=write_rows([f"문서 {n}" for n in range(2000)]), holdout_permille=100)
    train, held_out = texts(source), texts(source, split="held-out")
    assert sorted(train + held_out) == sorted(f"문서 {n}" for n in range(2000))
    assert 150 < len(held_out) < 250


def test_what_comes_from_one_page_is_on_one_side_of_the_split_in_every_file(write_rows) -> None:
    rows = [{"text": f"{page} {n}", "source": f"page {page}"} for page in range(300) for n in range(2)]
    sources = [
        SourceConfig(path=write_rows(rows[n::2], f"{n}.jsonl"), holdout_permille=100) for n in range(2)
    ]
    pages = [{text.split()[0] for text in texts(source, split="held-out")} for source in sources]
    assert pages[0] == pages[1] != set()


def test_the_split_never_changes() -> None:
    held_out = [n for n in range(1000) if _split_of(f"문서 {n}", 5) == "held-out"]
    assert held_out == [70, 493, 537, 796, 955]  # a model published with one split would be tested on another


def test_holdout_by_text_splits_rows_that_share_one_source(write_rows) -> None:
    rows = [{"text": f"{n}", "source": "all the same"} for n in range(300)]
    path = write_rows(rows)
    assert len(texts(SourceConfig(path=path, holdout_permille=100))) in (0, 300)
    assert (
        0
        < len(texts(SourceConfig(path=path, holdout_permille=100, holdout_by="text"), split="held-out"))
        < 100
    )


# ---- bad input


def test_null_in_parquet_is_named_as_in_json_lines(tmp_path) -> None:
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"text": "가"}, {"text": None}]), path)
    with pytest.raises(DataError, match=r"rows.parquet:2: text_field='text' is null. Fill it in"):
        texts(SourceConfig(path=str(path), holdout_permille=0))


@pytest.mark.parametrize(
    ("row", "options", "expected"),
    [
        (
            {"body": "가"},
            {},
            r"rows.jsonl:1: text_field='text' is absent. The row's fields are: body. Set text_field",
        ),
        ({"text": 3}, {}, r"rows.jsonl:1: text_field='text' is of type int"),
        ({"text": None}, {}, r"rows.jsonl:1: text_field='text' is null. Fill it in, or leave the row out"),
        (
            {"m": None},
            {"messages_field": "m"},
            r"messages_field='m' is null, not a list of .* objects. Fill it in",
        ),
        ({"ko": "가"}, {"format": "{ko}{en}"}, r"rows.jsonl:1: format='\{ko\}\{en\}' does not fit \('en'\)"),
        ({"ko": "가", "en": None}, {"format": "{ko}{en}"}, r"does not fit \('en'\)"),
        (
            {"text": "가"},
            {"messages_field": "messages"},
            r"rows.jsonl:1: messages_field='messages' is absent",
        ),
        (
            {"m": [{"content": "가"}]},
            {"messages_field": "m"},
            r"rows.jsonl:1: messages_field='m' is of type list, not a list of",
        ),
    ],
)
def test_a_row_without_the_content_is_named_with_its_fields(write_rows, row, options, expected: str) -> None:
    source = SourceConfig(path=write_rows([row]), holdout_permille=0, **options)
    with pytest.raises(DataError, match=expected):
        list(read_documents(source))


@pytest.mark.parametrize(
    "options",
    [
        {"weight": 0.0},
        {"weight": float("nan")},
        {"holdout_permille": 1001},
        {"max_characters": 0},
        {"format": "{a}", "messages_field": "messages"},
    ],
)
def test_a_config_out_of_range_is_refused_by_value(options) -> None:
    with pytest.raises(ConfigError, match=str(next(iter(options)))):
        SourceConfig(path="a.jsonl", **options)
