"""Files read strictly and written atomically: text, JSON, and the temporary file for any other kind.

`atomic_write` is the one way in which Malmoi replaces a file: the new content goes to a temporary file beside
it, is flushed to the disk, and takes the name in a single step. Killed at any moment, or on a full disk, the
old file is still there, whole. `write_texts` does so with several files, all or none. Read next: `weights/files.py`,
where files too large for a copy change as one.
"""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from malmoi.core.errors import DataError, MalmoiError


def read_text(path: str | Path, *, error: type[MalmoiError] = DataError) -> str:
    """Return the content of a UTF-8 text file.

    Raises:
        error: the file is missing, cannot be read, or is not UTF-8 (with the byte where it stops being so).
    """
    try:
        return Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as problem:
        byte = problem.object[problem.start]
        raise error(
            f"{path} is not UTF-8: byte {problem.start} is 0x{byte:02x}. "
            "Convert it first, Korean of old Windows for instance with: iconv -f CP949 -t UTF-8."
        ) from None
    except OSError as problem:
        raise error(f"cannot read {path}: {problem.strerror}. Check the path.") from problem


def read_json(path: str | Path, *, error: type[MalmoiError] = DataError) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        error: the file cannot be read, is not JSON (with line and column), or is not an object.
    """
    try:
        value = json.loads(read_text(path, error=error))
    except (ValueError, RecursionError) as problem:
        raise error(f"{path} is not JSON: {problem}. Write or fetch it again.") from None
    if not isinstance(value, dict):
        raise error(f"{path} holds {type(value).__name__}, not a JSON object. Write or fetch it again.")
    return value


def write_text(path: str | Path, text: str, *, error: type[MalmoiError] = DataError) -> None:
    """Write a UTF-8 text file, atomically. Raises `error` as `atomic_write` does."""
    with atomic_write(path, error=error) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def write_json(path: str | Path, value: object, *, error: type[MalmoiError] = DataError) -> None:
    """Write `value` as indented JSON with Korean left readable, atomically. Raises `error` as `atomic_write`.

    >>> with tempfile.TemporaryDirectory() as directory:
    ...     write_json(f"{directory}/name.json", {"이름": "말모이"})
    ...     read_json(f"{directory}/name.json")
    {'이름': '말모이'}
    """
    write_text(path, json_text(value), error=error)


def json_text(value: object) -> str:
    r"""Return `value` as `write_json` writes it: indented, with Korean left readable, and a line's end.

    >>> json_text({"이름": "말모이"})
    '{\n  "이름": "말모이"\n}\n'
    """
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write_texts(texts: Mapping[Path, str], *, error: type[MalmoiError] = DataError) -> None:
    """Write UTF-8 text files, each atomically, and all or none: for files that mean something only together.

    If one cannot be written, the others have again what they had. Killed between two steps, some are new and some old,
    each whole. Raises `error` as `atomic_write` does.

    >>> with tempfile.TemporaryDirectory() as directory:
    ...     a, b = Path(directory, "a"), Path(directory, "b")
    ...     b.mkdir()  # no file can take this name
    ...     with suppress(DataError):
    ...         write_texts({a: "말", b: "모이"})
    ...     a.exists()
    False
    """
    with ExitStack() as stack:
        for path in texts:
            stack.enter_context(_put_back_on_error(path, error))
        # A stack ends from its top: every text is in its temporary file before the first takes its name.
        for path, text in texts.items():
            stack.enter_context(atomic_write(path, error=error)).write_bytes(text.encode("utf-8"))


def require_writable(path: str | Path, *, error: type[MalmoiError] = DataError) -> None:
    """Raise `error`, as `atomic_write` would, if the file `path` cannot be made: ask before the work, not after.

    Nothing is left behind. A disk that is full is found only by writing.
    """
    with _beside(Path(path), error):
        pass


@contextmanager
def atomic_write(path: str | Path, *, error: type[MalmoiError] = DataError) -> Iterator[Path]:
    """Lend a temporary path for the block to write; if the block ends well, it becomes the file `path`.

    Makes the directories above, and removes them again if the block does not end well. The temporary file lies in a
    hidden directory `.NAME.*.tmp` beside `path`, which is removed unless the process is killed. A file that is
    replaced keeps its permissions.

        with atomic_write("loss.png") as temporary:
            figure.savefig(temporary)

    Raises:
        error: for any OSError, in the block too: a full disk, a directory that cannot be written. Before the block if
            `path` is there and no file, such as a device or a link to nothing, which the new file would replace.
    """
    path = Path(path)
    with _beside(path, error) as temporary:
        temporary.touch()
        mode = (path if path.exists() else temporary).stat().st_mode & 0o777
        yield temporary
        temporary.chmod(mode)
        flush(temporary)
        temporary.replace(path)
        with suppress(OSError):  # the new name itself; not every file system can flush a directory
            flush(path.parent)


@contextmanager
def _beside(path: Path, error: type[MalmoiError]) -> Iterator[Path]:
    """Lend a path of the same name in a new directory beside `path`; removed after, as what was made above it if empty.

    A directory of its own, because writers may need temporary files themselves (safetensors does). Raises `error` if
    `path` is there and no file, and for any OSError, in the block too.
    """
    with _os_errors_as(error, path), ExitStack() as cleaning:
        if os.path.lexists(path) and not path.is_file():
            raise error(
                f"cannot write {path}: it is no file. Name another. What was there before is unchanged."
            )
        for directory in reversed([above for above in path.parents if not above.exists()]):
            directory.mkdir(exist_ok=True)
            cleaning.callback(_remove_if_empty, directory)
        own = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        cleaning.callback(shutil.rmtree, own, ignore_errors=True)
        yield own / path.name


def _remove_if_empty(directory: Path) -> None:
    with suppress(OSError):  # a file is there, ours or somebody's
        directory.rmdir()


@contextmanager
def _put_back_on_error(path: Path, error: type[MalmoiError]) -> Iterator[None]:
    """Give `path` what it had before the block, or nothing, if that ends with an exception."""
    with _beside(path, error) as copy:
        was_there = os.path.lexists(path)  # a file, or a link to one
        if was_there:
            shutil.copy2(path, copy, follow_symlinks=False)
        try:
            yield
        except BaseException:
            if was_there:
                copy.replace(path)
            else:
                path.unlink(missing_ok=True)
            raise


@contextmanager
def _os_errors_as(error: type[MalmoiError], path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise error(
            f"cannot write {path}: {problem.strerror or problem}. {_remedy(problem.errno)}"
        ) from problem


def flush(path: Path) -> None:
    """Return when what `path` holds is on the disk, not only in memory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remedy(number: int | None) -> str:
    is_full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    advice = "Free space on that disk" if is_full else "Check the directory and its permissions"
    return f"{advice}, or write elsewhere. What was there before is unchanged."
