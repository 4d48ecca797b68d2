import gzip
import json
import re
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from malmoi.core.errors import DataError
from malmoi.data.files import _split_lines, find_files, read_lines, read_rows

ROWS = [{"text": "말모이는 낱말을 모은다.\n둘째 줄\u2028셋째", "n": number} for number in range(50)]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def test_rows_are_the_same_in_every_format(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(JSONL)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(JSONL))
    (tmp_path / "c.jsonl.zst").write_bytes(zstandard.compress(JSONL))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "d.parquet")
    for file in find_files(tmp_path):
        rows = list(read_rows(file))
        assert [row.fields for row in rows] == ROWS, file
        assert rows[-1].where == f"{file}:50"


def test_zst_may_need_a_128_mib_window_and_have_several_frames(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    streamed = compressor.compressobj()  # unlike compress(), it does not shrink the window to the content
    frame = streamed.compress(JSONL) + streamed.flush()
    assert zstandard.get_frame_parameters(frame).window_size == 2**27
    (tmp_path / "a.jsonl.zst").write_bytes(frame + zstandard.compress(JSONL))
    assert len(list(read_rows(tmp_path / "a.jsonl.zst"))) == 100


@given(st.lists(st.text("ab\n", max_size=8).map(str.encode)))
def test_lines_do_not_depend_on_how_the_bytes_were_chunked(chunks: list[bytes]) -> None:
    lines = list(_split_lines(chunks))
    assert lines == b"".join(chunks).splitlines(keepends=True)


def test_windows_line_ends_and_byte_order_mark_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeff첫 줄\r\n둘째 줄".encode())
    assert list(read_lines(tmp_path / "a.txt")) == ["첫 줄\n", "둘째 줄"]


def test_a_directory_and_a_glob_give_the_same_sorted_files_and_ignore_others(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "a.jsonl", "deep/c.txt.gz", "README.md", "x.parquet.gz"):
        (tmp_path / name).touch()
    expected = [tmp_path / name for name in ("a.jsonl", "b.txt", "deep/c.txt.gz")]
    assert find_files(tmp_path) == expected
    assert find_files(f"{tmp_path}/**/*") == expected


# ---- bad input: each names the file, the place and the remedy


def message(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        list(read_rows(path))
    return str(caught.value)


def test_a_missing_file_is_named_with_the_directory_it_was_sought_in(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file or directory: .*nothing\.jsonl \(in "):
        find_files(tmp_path / "nothing.jsonl")


def test_a_directory_without_data_says_what_data_is_called(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data files match .*\.jsonl, \.txt, \.parquet"):
        find_files(tmp_path)


def test_a_file_of_unknown_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.csv").touch()
    with pytest.raises(DataError, match=r"cannot tell the format of .*data\.csv"):
        find_files(tmp_path / "data.csv")


@pytest.mark.parametrize("pack", [zstandard.compress, gzip.compress])
@pytest.mark.parametrize("keep", [3, 20, -1])
def test_a_truncated_archive_is_refused_wherever_it_ends(tmp_path: Path, pack, keep: int) -> None:
    path = tmp_path / ("a.jsonl.zst" if pack is zstandard.compress else "a.jsonl.gz")
    path.write_bytes(pack(JSONL)[:keep])
    assert "truncated" in message(path)
    assert str(path) in message(path)


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.jsonl.gz"])
def test_an_archive_that_is_something_else_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"not an archive at all")
    assert "broken" in message(tmp_path / name)


def test_wrong_encoding_names_line_and_byte(tmp_path: Path) -> None:
    good = '{"text": "가"}\n'.encode()
    (tmp_path / "a.jsonl").write_bytes(good + '{"text": "나"}\n'.encode("cp949"))
    text = message(tmp_path / "a.jsonl")
    assert f"a.jsonl:2: not UTF-8 at byte {len(good) + 10}" in text
    assert "iconv -f CP949" in text
    assert "--errors replace" in text


def test_a_broken_json_line_is_named_and_shown(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "가"}\n\n{"text": "나"\n', "utf-8")
    assert "a.jsonl:3: not JSON" in message(tmp_path / "a.jsonl")
    assert '{"text": "나"' in message(tmp_path / "a.jsonl")


def test_half_a_surrogate_pair_is_refused_and_a_whole_one_is_a_character(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "\\ud83c\\udf88"}\n{"text": "\\uD83C"}\n', "utf-8")
    assert next(read_rows(tmp_path / "a.jsonl")).fields == {"text": "🎈"}
    assert r"a.jsonl:2: \ud83c is half a character" in message(tmp_path / "a.jsonl")


@pytest.mark.parametrize("depth", [*range(900, 1000, 20), 200_000])
def test_brackets_in_brackets_are_refused_by_line(tmp_path: Path, depth: int) -> None:
    """However deep: what has a surrogate pair is looked at once more, and not to another depth."""
    line = '{"text": "\\udbff\\udfff", "deep": ' + "[" * depth + "]" * depth + "}\n"
    (tmp_path / "a.jsonl").write_text('{"text": "가"}\n' + line + "[]\n", "utf-8")
    assert re.search(r"a.jsonl:(2: not JSON|3: expected a JSON object)", message(tmp_path / "a.jsonl"))


def test_a_json_line_that_is_no_object_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('"가나다"\n', "utf-8")
    assert "a.jsonl:1: expected a JSON object" in message(tmp_path / "a.jsonl")


def test_a_broken_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    assert "not a readable Parquet file" in message(tmp_path / "a.parquet")


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "pip install 'malmoi[parquet]'" in message(tmp_path / "a.parquet")
