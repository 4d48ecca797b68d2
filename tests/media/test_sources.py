"""A path, bytes or a `data:` URL gives its bytes; everything else is one clear error, before it is read."""

import base64
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jaxtyping
import pytest
from hypothesis import given
from hypothesis import strategies as st

from malmoi.core.errors import MediaError
from malmoi.media.sources import read_data_url, read_source

LIMIT = 1000


@given(st.binary(min_size=1, max_size=LIMIT))
def test_bytes_survive_every_kind_of_source(data: bytes) -> None:
    encoded = base64.b64encode(data).decode()
    urls = [
        f"data:image/png;base64,{encoded}",
        f"DATA:;BASE64,{encoded}",
        f"data:audio/wav;codecs=1;base64,{encoded}",
        f"data:;base64,{quote(encoded, safe='')}",
        f"data:,{quote(data, safe='')}",
    ]
    assert read_source(data, max_bytes=LIMIT).data == data
    assert [read_source(url, max_bytes=LIMIT).data for url in urls] == [data] * len(urls)


def test_a_file_gives_its_bytes_whether_the_path_is_text_or_not(tmp_path: Path) -> None:
    file = tmp_path / "소리.wav"
    file.write_bytes(b"abc")
    assert read_source(file, max_bytes=3).data == read_source(str(file), max_bytes=3).data == b"abc"


def test_base64_may_be_broken_into_lines() -> None:
    assert read_data_url("data:;base64,YWJj\nZGVm", max_bytes=LIMIT).data == b"abcdef"


@given(st.text(max_size=50))
def test_any_text_is_read_or_refused(text: str) -> None:
    for source in (text, f"data:{text}", f"data:;base64,{text}"):
        try:
            read_source(source, max_bytes=LIMIT)
        except MediaError:
            continue


@pytest.mark.parametrize("size", [LIMIT - 2, LIMIT - 1, LIMIT, LIMIT + 1, LIMIT + 2, 5 * LIMIT])
def test_the_limit_is_exact_for_every_kind_of_source(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    file = tmp_path / "file"
    file.write_bytes(data)
    urls = [f"data:;base64,{base64.b64encode(data).decode()}", f"data:,{quote(data)}"]
    for source in (data, file, *urls):
        if size <= LIMIT:
            assert read_source(source, max_bytes=LIMIT).data == data
        else:
            with pytest.raises(
                MediaError, match=r"bytes, and 1,000 are allowed\. Make it smaller, or raise max_bytes"
            ):
                read_source(source, max_bytes=LIMIT)


def test_a_url_that_is_too_long_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("malmoi.media.sources.unquote_to_bytes", None)
    monkeypatch.setattr("malmoi.media.sources.base64", None)
    for url in ("data:;base64," + "A" * 1400, "data:," + "A" * 1001):
        with pytest.raises(MediaError, match="1,000 are allowed"):
            read_data_url(url, max_bytes=LIMIT)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    file = tmp_path / "sparse"
    with file.open("wb") as opened:
        opened.truncate(10**12)
    monkeypatch.setattr(Path, "open", None)
    with pytest.raises(MediaError, match="has 1,000,000,000,000 bytes"):
        read_source(file, max_bytes=LIMIT)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "https://example.com/cat.png",
            "https://example.com/cat.png is a URL, and nothing is fetched. Download it",
        ),
        ("HTTP://example.com", "is a URL"),
        ("file:///etc/passwd", "is a URL"),
        ("s3://bucket/key", "is a URL"),
        ("no/such/file.png", r"no/such/file.png does not exist \(in /"),
        ("/dev/zero", "/dev/zero is not a regular file"),
        (Path("/"), "/ is not a regular file"),
        ("a" * 5000, r"cannot read a+\.\.\.: File name too long"),
        ("nu\0ll", r"does not exist|null"),
        (b"", "is empty"),
        ("data:,", "a data: URL of 6 characters is empty"),
        ("data:;base64,", "is empty"),
        ("data:image/png", "a string of 14 characters is not a data: URL. Write data:image/png;base64"),
        ("data:;base64,YWJ", "is not base64: Incorrect padding"),
        ("data:;base64,YWJj-_==", "is not base64"),
        ("data:,%EB%A7%9", "characters that a URL cannot have"),
        ("data:,말", "characters that a URL cannot have"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_source_is_refused_by_name(source: Any, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        read_source(source, max_bytes=LIMIT)


@pytest.mark.parametrize(
    "source", [3, None, ["cat.png"], bytearray(b"abc"), object()], ids=lambda x: type(x).__name__
)
def test_what_is_no_source_at_all_is_refused_by_its_type(
    source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        jaxtyping.config, "jaxtyping_disable", True
    )  # annotations are no assertions for users
    with pytest.raises(
        MediaError, match=f"^{type(source).__name__} is no image or sound. Give a path, the bytes of a"
    ):
        read_source(source, max_bytes=LIMIT)


@pytest.mark.parametrize(
    "url", ["data:{},hunter2", "data:;base64,hunter2-{}", "data:,말hunter2{}", "hunter2{}"]
)
def test_an_error_never_quotes_a_data_url(url: str) -> None:
    with pytest.raises(MediaError) as caught:
        read_data_url(url.format("x" * 2000), max_bytes=5)
    assert "hunter2" not in str(caught.value)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(MediaError, match=r"empty\.png is empty"):
        read_source(tmp_path / "empty.png", max_bytes=LIMIT)


def test_a_strangers_string_never_opens_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(MediaError, match="is not a data: URL"):
        read_data_url(str(tmp_path / "secret"), max_bytes=LIMIT)
