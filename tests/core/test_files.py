"""Laws of core/files.py: a reader gets all that one writer wrote, and a refusal says where the fault is."""

import contextlib
import doctest
import errno
import os
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from malmoi.core import files
from malmoi.core.errors import CheckpointError, DataError
from malmoi.core.files import (
    atomic_write,
    read_json,
    read_text,
    require_writable,
    write_json,
    write_text,
    write_texts,
)
from malmoi.testing.crash import dies_at
from malmoi.testing.full_disk import disk_with_room_for

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files") / "value.json"


@settings(max_examples=40)
@given(value=st.dictionaries(st.text(), json_values, max_size=4))
def test_json_is_read_as_it_was_written(path: Path, value: dict[str, object]) -> None:
    write_json(path, value)
    assert read_json(path) == value
    assert path.parent.joinpath("value.json").is_file()
    assert len(list(path.parent.iterdir())) == 1


def test_korean_in_json_is_readable_as_text(path: Path) -> None:
    write_json(path, {"이름": "말모이"})
    assert "말모이" in path.read_text(encoding="utf-8")


def test_the_new_file_is_on_the_disk_before_it_takes_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "config.json"
    had_the_name = []
    monkeypatch.setattr(os, "fsync", lambda _descriptor: had_the_name.append(file.exists()))
    write_text(file, "text")
    assert had_the_name == [False, True], "the content is flushed before, the directory after"


def test_a_write_that_dies_at_any_step_leaves_the_old_or_the_new_file_whole(tmp_path: Path) -> None:
    file, died = tmp_path / "config.json", [True]
    step = 0
    while died:
        write_text(file, "old")
        with dies_at(step) as died:
            write_text(file, "new")
        assert read_text(file) in ("old", "new")
        step += 1
    assert step > 5
    assert read_text(file) == "new"


def test_a_reader_that_has_the_old_file_open_goes_on_reading_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    write_text(file, "old")
    with file.open() as reader:
        write_text(file, "new")
        assert reader.read() == "old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_old_file_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    file = tmp_path / "config.json"
    write_text(file, "old")

    def full(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"cannot write .*config.json: .*Free space .*unchanged"):
        write_text(file, "new", error=CheckpointError)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


@contextlib.contextmanager
def refusing_the_name(name: Path) -> Iterator[None]:
    """For the block, a file that is written cannot be renamed to `name`."""
    replace = Path.replace

    def replaced(path: Path, target: Path) -> Path:
        if target == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return replace(path, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", replaced)
        yield


def content_of(directory: Path) -> dict[str, str | None]:
    return {
        str(path.relative_to(directory)): path.read_text() if path.is_file() else None
        for path in directory.rglob("*")
    }


NAMES = ("a", "b", "c")


@pytest.mark.parametrize("were", [*product(("absent", "old"), repeat=2)])
@pytest.mark.parametrize("bad", range(3))
@pytest.mark.parametrize("why", ["is a directory", "does not fit", "gets no name"])
def test_of_several_files_all_are_written_or_none(
    tmp_path: Path, were: tuple[str, str], bad: int, why: str
) -> None:
    """One of the three is a directory, or does not fit on the disk, or its name is refused when others have theirs.

    The others were there before, or not.
    """
    paths = [tmp_path / name for name in NAMES]
    texts = dict.fromkeys(paths, "new")
    for path, was in zip((path for at, path in enumerate(paths) if at != bad), were, strict=True):
        if was == "old":
            path.write_text(was)
    if why == "does not fit":
        texts[paths[bad]] = "new" * 1000
    elif why == "is a directory":
        paths[bad].mkdir()
    before = content_of(tmp_path)
    no_name = refusing_the_name(paths[bad]) if why == "gets no name" else contextlib.nullcontext()
    with (
        disk_with_room_for(1000),
        no_name,
        pytest.raises(DataError, match=f"cannot write {paths[bad]}: .*unchanged"),
    ):
        write_texts(texts)
    assert content_of(tmp_path) == before
    if why == "is a directory":
        paths[bad].rmdir()
    write_texts(texts)
    assert content_of(tmp_path) == {path.name: text for path, text in texts.items()}


def test_several_files_that_die_at_any_step_are_each_whole(tmp_path: Path) -> None:
    paths, died = [tmp_path / name for name in NAMES], [True]
    step = 0
    while died:
        for path in paths:
            write_text(path, "old")
        with dies_at(step) as died:
            write_texts(dict.fromkeys(paths, "new"))
        assert {read_text(path) for path in paths} <= {"old", "new"}
        step += 1
    assert [read_text(path) for path in paths] == ["new"] * 3


def test_a_write_that_fails_leaves_no_directory_that_it_made(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with disk_with_room_for(10):
        for directory in ("there/a/b", "a"):
            with pytest.raises(DataError, match="cannot write .*Free space"):
                write_text(tmp_path / directory / "file", "too much for this disk")
    assert content_of(tmp_path) == {"there": None}


def test_what_cannot_be_written_is_refused_before_and_what_can_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    before = content_of(tmp_path)
    for path in (tmp_path / "file" / "below", Path("/proc/none/file")):
        with pytest.raises(CheckpointError, match=f"cannot write {path}: "):
            require_writable(path, error=CheckpointError)
    for path in (tmp_path / "file", tmp_path / "a" / "b" / "new"):
        require_writable(path)
    assert content_of(tmp_path) == before


@pytest.mark.parametrize(
    "kind", ["fifo", "link to nothing", "link to itself", "directory", "link to a directory"]
)
def test_what_is_there_and_no_file_is_refused_before_the_work_and_stays(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "path", tmp_path / "a"
    if kind.startswith("link"):
        path.symlink_to({"link to nothing": "nothing", "link to itself": "path"}.get(kind, "/"))
    else:
        os.mkfifo(path) if kind == "fifo" else path.mkdir()
    before = path.lstat()
    refused = partial(
        pytest.raises, CheckpointError, match=f"cannot write {path}: it is no file. Name another"
    )
    with refused():
        require_writable(path, error=CheckpointError)
    with refused():
        write_texts({other: "new", path: "new"}, error=CheckpointError)
    with refused(), atomic_write(path, error=CheckpointError):
        pytest.fail("the work was begun")
    assert path.lstat() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_to_a_file_is_put_back_as_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    link, other = tmp_path / "link", tmp_path / "other"
    link.symlink_to("file")
    require_writable(link)
    with refusing_the_name(other), pytest.raises(DataError, match=f"cannot write {other}"):
        write_texts({other: "new", link: "new"})
    assert link.readlink() == Path("file")
    write_text(link, "new")
    assert content_of(tmp_path) == {"file": "old", "link": "new"}


def test_the_examples_are_true() -> None:
    assert doctest.testmod(files).failed == 0


def test_an_exception_in_the_block_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    file = tmp_path / "a" / "config.json"
    write_text(file, "old")
    with contextlib.suppress(KeyError), atomic_write(file) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert file.read_text() == "old"
    assert list(file.parent.iterdir()) == [file]


def test_a_new_file_has_the_permissions_of_any_other_and_a_replaced_one_keeps_its_own(tmp_path: Path) -> None:
    ordinary, ours = tmp_path / "ordinary", tmp_path / "ours"
    ordinary.touch()
    write_text(ours, "new")
    assert ours.stat().st_mode == ordinary.stat().st_mode
    ours.chmod(0o600)
    write_text(ours, "newer")
    assert ours.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read .*No such file"),
        ("한글".encode("cp949"), "not UTF-8: byte 0 is 0xc7.*iconv"),
        (b'{"a": 1,}', "not JSON: .*line 1 column 9"),
        (b"[1]", "holds list, not a JSON object"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused_by_name(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "config.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_json(file)
    assert str(file) in str(caught.value)


def test_a_directory_where_the_file_should_go_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot write"):
        write_text(tmp_path, "text")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"):
        write_text(tmp_path / "file" / "below", "text")
