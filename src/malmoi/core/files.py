"""Files read strictly and written atomically: text, JSON, and the temporary file for any other kind.

`atomic_write` is the one way in which Malmoi replaces a file: the new content goes to a temporary file beside
it, is flushed to the disk, and takes the name in a single step. Killed at any moment, or on a full disk, the
old file is still there, whole. Read next: `weights/files.py`, where several files change as one.
"""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", error=error)


@contextmanager
def atomic_write(path: str | Path, *, error: type[MalmoiError] = DataError) -> Iterator[Path]:
    """Lend a temporary path for the block to write; if the block ends well, it becomes the file `path`.

    Makes the directories above. The temporary file lies in a hidden directory `.NAME.*.tmp` beside `path`,
    which is removed unless the process is killed. A file that is replaced keeps its permissions.

        with atomic_write("loss.png") as temporary:
            figure.savefig(temporary)

    Raises:
        error: for any OSError, in the block too: a full disk, a directory that cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A directory of its own, because writers may need temporary files themselves (safetensors does).
        directory = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            temporary = directory / path.name
            temporary.touch()
            mode = (path if path.exists() else temporary).stat().st_mode & 0o777
            yield temporary
            temporary.chmod(mode)
            flush(temporary)
            temporary.replace(path)
            with suppress(OSError):  # the new name itself; not every file system can flush a directory
                flush(path.parent)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
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
