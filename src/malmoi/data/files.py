"""Bytes on disk -> rows: JSON Lines, plain text and Parquet, plain, gzipped or Zstandard, streamed.

The lowest step of the data path and the place where bad input is met: a missing file, a truncated archive,
bytes that are not UTF-8, a broken JSON line. Each is a `DataError` that names file, line and remedy.
Memory is bounded by one chunk and one line. Read next: `sources.py`, which turns rows into documents.
"""

import gzip
import importlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Any, BinaryIO, Literal

import zstandard

from malmoi.core.errors import DataError

CHUNK_BYTES = 1 << 18
# `zstd --long=27` writes frames that need this much history; the library's own limit is 8 MiB.
ZSTD_WINDOW_BYTES = 2**27
FORMATS = (".jsonl", ".txt", ".parquet")
COMPRESSIONS = (".zst", ".gz")
OnBadBytes = Literal["strict", "replace"]
"""What bytes that are not UTF-8 do: raise `DataError`, or read as U+FFFD. Named as in `bytes.decode`."""


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a JSONL or Parquet file. `where` is `path:line`, counted from 1."""

    fields: Mapping[str, Any]
    where: str


def find_files(path: str | Path) -> list[Path]:
    """The data files that `path` means: a file, a directory (searched recursively) or a glob; sorted.

    Raises `DataError` when there is none.
    """
    path = Path(path).expanduser()
    if has_magic(str(path)) and not path.exists():
        found = [Path(match) for match in glob(str(path), recursive=True)]
    elif path.is_dir():
        found = list(path.rglob("*"))
    elif path.exists():
        data_format(path)  # a file that was named and that we cannot read is an error, not skipped
        return [path]
    else:
        raise DataError(
            f"no such file or directory: {path} (in {Path.cwd()}). Check the path of the data source."
        )
    files = sorted(file for file in found if file.is_file() and _is_data(file))
    if not files:
        raise DataError(f"no data files match {path}. Expected names ending in {_endings()}.")
    return files


def data_format(path: Path) -> str:
    """`.jsonl`, `.txt` or `.parquet`, whatever the compression. Raises `DataError` for other names."""
    if not _is_data(path):
        raise DataError(
            f"cannot tell the format of {path} from its name. Expected a name ending in {_endings()}."
        )
    return _without_compression(path).suffix


def read_rows(path: Path, errors: OnBadBytes = "strict") -> Iterator[Row]:
    """The rows of a `.jsonl` (`.zst`, `.gz`) or `.parquet` file, in order. Blank lines are skipped."""
    return _read_parquet(path) if data_format(path) == ".parquet" else _read_jsonl(path, errors)


def read_lines(path: Path, errors: OnBadBytes = "strict") -> Iterator[str]:
    r"""The lines of a text file (`.zst`, `.gz` too), each with its newline; `\r\n` becomes `\n`.

    Raises `DataError` naming line and byte where the file is not UTF-8, unless `errors` says to replace what is not.
    A byte-order mark is dropped.
    """
    offset = 0
    for number, line in enumerate(_split_lines(_read_chunks(path)), start=1):
        try:
            text = line.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            bad = line[error.start : error.start + 4].hex(" ")
            raise DataError(
                f"{path}:{number}: not UTF-8 at byte {offset + error.start} of the text ({bad}). "
                "Convert it first, for example: iconv -f CP949 -t UTF-8 (old Korean files are mostly CP949); or go on "
                'with U+FFFD in its place: errors="replace", --errors replace.'
            ) from None
        offset += len(line)
        if number == 1:
            text = text.removeprefix("\ufeff")
        yield text[:-2] + "\n" if text.endswith("\r\n") else text


def _read_jsonl(path: Path, errors: OnBadBytes) -> Iterator[Row]:
    for number, line in enumerate(read_lines(path, errors), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:  # the latter of brackets in brackets in brackets
            raise DataError(
                f"{where}: not JSON ({error}): {_shorten(line)}. A line holds one object; fix or remove it."
            ) from None
        # An escaped half of a surrogate pair: legal JSON, but not a text.
        if "\\ud" in line or "\\uD" in line:
            _check_unicode(fields, where)
        if not isinstance(fields, dict):
            raise DataError(
                f"{where}: expected a JSON object, got {_shorten(line)}. Make it {{'text': ...}}."
            )
        yield Row(fields, where)


def _check_unicode(fields: object, where: str) -> None:
    try:
        json.dumps(fields, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise DataError(f"{where}: {half} is half a character (a lone surrogate). Remove it.") from None


def _read_parquet(path: Path) -> Iterator[Row]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
        arrow_error: Any = importlib.import_module("pyarrow").ArrowException
    except ImportError:
        raise DataError(
            f"{path}: reading Parquet needs pyarrow. Install it: pip install 'malmoi[parquet]'"
        ) from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(fields, f"{path}:{number}")
    except (arrow_error, OSError) as error:
        raise DataError(
            f"{path}: not a readable Parquet file after row {number} ({error}). Fetch it again."
        ) from None


def _read_chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            match path.suffix:
                case ".zst":
                    yield from _decompress_zstd(file, path)
                case ".gz":
                    with gzip.open(file) as unzipped:
                        yield from iter(lambda: unzipped.read(CHUNK_BYTES), b"")
                case _:
                    yield from iter(lambda: file.read(CHUNK_BYTES), b"")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: a broken or truncated gzip file ({error}). Fetch or compress it again."
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from None


def _decompress_zstd(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """Decompress frame after frame. `stream_reader` would take a truncated file for a short one, silently."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    frame: zstandard.ZstdDecompressionObj | None = None
    try:
        while data := file.read(CHUNK_BYTES // 4):
            while data:
                frame = frame or decompressor.decompressobj()
                yield frame.decompress(data)
                data = frame.unused_data if frame.eof else b""
                frame = None if frame.eof else frame
    except zstandard.ZstdError as error:
        raise DataError(f"{path}: a broken Zstandard file ({error}). Fetch or compress it again.") from None
    if frame is not None:
        raise DataError(f"{path}: a truncated Zstandard file (its last frame has no end). Fetch it again.")


def _split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    r"""Lines with their newline. Only b"\n" ends one: other line separators are legal inside JSON strings."""
    held: list[bytes] = []  # of the line that is not complete yet: joined once, however long it is
    for chunk in chunks:
        first, newline, rest = chunk.partition(b"\n")
        held.append(first + newline)
        if not newline:
            continue
        yield b"".join(held)
        *whole, last = rest.split(b"\n")
        for line in whole:
            yield line + b"\n"
        held = [last]
    if final := b"".join(held):
        yield final


def _without_compression(path: Path) -> Path:
    return path.with_suffix("") if path.suffix in COMPRESSIONS else path


def _is_data(path: Path) -> bool:
    plain = _without_compression(path)
    return plain.suffix in FORMATS and (plain.suffix != ".parquet" or plain == path)


def _endings() -> str:
    return ", ".join(FORMATS) + f" (the first two also with {' or '.join(COMPRESSIONS)})"


def _shorten(line: str) -> str:
    line = line.strip()
    return repr(line if len(line) <= 60 else line[:57] + "...")
