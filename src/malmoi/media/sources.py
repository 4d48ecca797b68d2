"""A path, bytes or a `data:` URL -> bytes, and not one byte more than allowed.

The first step of everything in this folder. The size is checked before anything is read or decoded: of a file by
what the file system says, of a URL by its length. Nothing is ever fetched, and no error quotes what is inside.
Read next: `image.py`, `sound.py`.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from malmoi.core.errors import MediaError

MediaSource = str | Path | bytes
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_STRAY_PERCENT = re.compile(r"%(?![0-9a-fA-F]{2})")


@dataclass(frozen=True)
class Blob:
    """The bytes of one image or sound, and what errors call it."""

    data: bytes
    name: str


def read_source(source: MediaSource, *, max_bytes: int) -> Blob:
    """The bytes that `source` means: itself, the content of a file, or that of a `data:` URL.

    A string is a path unless it begins with `data:`. It is opened wherever it points, so a server hands a
    stranger's string to `read_data_url` instead, and `LLM.chat` opens none (`llm/parts.py`).

    >>> read_source("data:,%EB%A7%90", max_bytes=3).data.decode()
    '말'
    >>> read_source("https://example.com/cat.png", max_bytes=10)
    Traceback (most recent call last):
        ...
    malmoi.core.errors.MediaError: https://example.com/cat.png is a URL, and nothing is fetched. Download it ...

    Raises:
        MediaError: another kind of object or URL, no regular file, more than `max_bytes`, or nothing at all.
    """
    if isinstance(source, bytes):
        return _checked(Blob(source, f"what was given ({len(source):,} bytes)"), max_bytes)
    if isinstance(source, str) and is_data_url(source):
        return read_data_url(source, max_bytes=max_bytes)
    if isinstance(source, str) and _SCHEME.match(source):
        raise MediaError(
            f"{_shorten(source)} is a URL, and nothing is fetched. Download it and give the file's path or bytes."
        )
    try:
        path = Path(source)
    except TypeError:
        raise MediaError(
            f"{type(source).__name__} is no image or sound. Give a path, the bytes of a file or a data: URL."
        ) from None
    return _checked(_read_file(path, max_bytes), max_bytes)


def is_data_url(text: str) -> bool:
    """Whether `text` says that it is one.

    >>> is_data_url("DATA:,a"), is_data_url("data.png")
    (True, False)
    """
    return text[:5].lower() == "data:"


def is_web_url(text: str) -> bool:
    """Whether `text` is an address of the web. Nothing opens a file of such a name.

    >>> is_web_url("HTTPS://example.com/cat.png"), is_web_url("file:///etc/passwd"), is_web_url("cat.png")
    (True, False, False)
    """
    return text[:8].lower().startswith(("https://", "http://"))


def read_data_url(url: str, *, max_bytes: int) -> Blob:
    r"""The bytes inside a `data:` URL (RFC 2397), base64 or percent-encoded.

    The media type in it is not believed: the bytes say what they are, and what opens them looks.

    >>> read_data_url("data:image/png;base64,iVBORw0KGgo=", max_bytes=20).data
    b'\x89PNG\r\n\x1a\n'

    Raises:
        MediaError: not such a URL, characters that do not belong in it, more than `max_bytes`, or nothing at all.
    """
    name = f"a data: URL of {len(url):,} characters"
    head, comma, payload = url.partition(",")
    if not is_data_url(url) or not comma:
        raise MediaError(
            f"a string of {len(url):,} characters is not a data: URL. Write data:image/png;base64,... or "
            "data:audio/wav;base64,..."
        )
    is_base64 = head.lower().endswith(";base64")
    num_bytes = len(payload) - 2 * payload.count("%")  # of three characters each is left one byte
    _check_size(num_bytes * 3 // 4 - 2 if is_base64 else num_bytes, name, max_bytes)
    if not payload.isascii() or _STRAY_PERCENT.search(payload):
        raise MediaError(f"{name} has characters that a URL cannot have. Encode its data as base64.")
    data = unquote_to_bytes(payload)
    if is_base64:
        try:
            data = base64.b64decode(b"".join(data.split()), validate=True)
        except binascii.Error as error:
            raise MediaError(f"{name} is not base64: {error}. Encode the whole file again.") from None
    return _checked(Blob(data, name), max_bytes)


def _read_file(path: Path, max_bytes: int) -> Blob:
    try:
        path = path.expanduser()
        if not path.is_file():  # a device or a pipe would have no size, and perhaps no end
            state = "is not a regular file" if path.exists() else "does not exist"
            raise MediaError(f"{path} {state} (in {Path.cwd()}). Check the path.")
        _check_size(path.stat().st_size, str(path), max_bytes)
        with path.open("rb") as file:
            return Blob(file.read(max_bytes + 1), str(path))
    except (
        OSError,
        ValueError,
        RuntimeError,
    ) as error:  # the last two: a null character, ~ of an unknown user
        reason = getattr(error, "strerror", None) or error
        raise MediaError(f"cannot read {_shorten(str(path))}: {reason}. Check the path.") from None


def _checked(blob: Blob, max_bytes: int) -> Blob:
    _check_size(len(blob.data), blob.name, max_bytes)
    if not blob.data:
        raise MediaError(f"{blob.name} is empty: it has no bytes. Give an image or a sound.")
    return blob


def _check_size(num_bytes: int, name: str, max_bytes: int) -> None:
    if num_bytes > max_bytes:
        raise MediaError(
            f"{name} has {num_bytes:,} bytes, and {max_bytes:,} are allowed. Make it smaller, or raise max_bytes."
        )


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
