"""Which parts of a message are images and sounds: two spellings of each, and no part that is not known.

    {"type": "image", "image": ...}     {"type": "image_url", "image_url": {"url": "data:..."}}
    {"type": "audio", "audio": ...}     {"type": "input_audio", "input_audio": {"data": "...", "format": "wav"}}

The first is that of `transformers`, the second OpenAI's; a chat format is given both as the first. A format passes
over what it does not know without a word, or takes a key for an image, so whatever else a part says is refused.
Read next: `media.py`, what becomes of the files.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from malmoi.core.errors import MediaError, TemplateError
from malmoi.media.sources import MediaSource, is_data_url, is_web_url
from malmoi.text.chat import Message

_MEDIA = {"image": "images", "audio": "audio"}
"""The medium of each type of part."""
_MISPLACED = {"image", "images", "image_url", "audio", "input_audio", "video", "videos"}
"""Keys under which others put files beside a message's content."""
_DETAILS: tuple[dict[str, str], ...] = ({}, {"detail": "auto"})
"""What an image_url may say of its detail: another one would ask for more features, or for fewer."""


def without_media(messages: Sequence[Message]) -> tuple[list[Message], dict[str, list[MediaSource]]]:
    """The messages with nothing in their images and sounds, which chat formats do not read; and these, in order.

    >>> content = [{"type": "image_url", "image_url": {"url": "data:,..."}}, {"type": "text", "text": "?"}]
    >>> messages, media = without_media([{"role": "user", "content": content}])
    >>> messages[0]["content"]
    [{'type': 'image', 'image': ''}, {'type': 'text', 'text': '?'}]
    >>> media
    {'images': ['data:,...'], 'audio': []}

    Raises:
        TemplateError: a content that is neither text nor a list of parts, a part that is none of those above, or a
            file beside the content.
        MediaError: a string that is no `data:` URL. It is a stranger's, and opens no file. Whether an address of the
            web is fetched, `media.py` decides.
    """
    media: dict[str, list[MediaSource]] = {medium: [] for medium in _MEDIA.values()}
    return [_emptied(message, media) for message in messages], media


def in_one_text(message: Message) -> Message:
    """The message with its parts as one text, if they all are text.

    >>> in_one_text({"role": "user", "content": [{"type": "text", "text": "안"}, {"type": "text", "text": "녕?"}]})
    {'role': 'user', 'content': '안녕?'}
    """
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, list | tuple) or not content:
        return message
    if not all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        return message
    return {**message, "content": "".join(part["text"] for part in content)}


def _emptied(message: Any, media: Mapping[str, list[MediaSource]]) -> Any:
    """The message without its files, which are added to `media` (mutates them)."""
    if not isinstance(message, Mapping):
        return message  # it is refused where it is rendered
    if misplaced := [key for key in message if key in _MISPLACED and message[key] is not None]:
        raise TemplateError(
            f"a message has the key {misplaced[0]!r} beside its content. Make what is there a part of the content."
        )
    content = message.get("content")
    if content is None or isinstance(content, str):
        return message
    if not isinstance(content, list | tuple):
        raise TemplateError(
            f"the content of a message is of the type {type(content).__name__}. Give text, or a list of parts."
        )
    parts = []
    for part in content:
        kind, value = _read(part)
        parts.append({"type": kind, kind: "" if kind in _MEDIA else value})
        if kind in _MEDIA:
            media[_MEDIA[kind]].append(value)
    return {**message, "content": parts}


def _read(part: object) -> tuple[str, Any]:
    """The type of a part, and its text or file."""
    match part:
        case {"type": "text", "text": str(text), **rest} if not rest:
            return "text", text
        case {"type": "image", "image": str() | bytes() | Path() as source, **rest} if not rest:
            return "image", _not_a_path(source)
        case {"type": "audio", "audio": str() | bytes() | Path() as source, **rest} if not rest:
            return "audio", _not_a_path(source)
        case {"type": "image_url", "image_url": {"url": str(url), **more}, **rest} if (
            not rest and more in _DETAILS
        ):
            return "image", _not_a_path(url)
        # The format is as little believed as the media type of a URL.
        case {"type": "input_audio", "input_audio": {"data": str(data), "format": str(), **more}, **rest} if (
            not rest and not more
        ):
            return "audio", data if is_data_url(data) else f"data:;base64,{data}"
    told = f"is of the type {type(part).__name__}"
    if isinstance(part, Mapping):
        told = f"has the type {part.get('type')!r:.40} and the keys {', '.join(map(str, part)):.80}"
    raise TemplateError(
        f'a part of a message {told}, and is not one that is known. Write {{"type": "text", "text": ...}}, or '
        '"image" or "audio" in both places, with a pathlib.Path, bytes or a data: URL, and no other key. '
        "OpenAI's image_url (detail: auto) and input_audio are known, too."
    )


def _not_a_path(source: MediaSource) -> MediaSource:
    if isinstance(source, str) and not is_data_url(source) and not is_web_url(source):
        raise MediaError(
            f"a message has a string of {len(source):,} characters for an image or a sound, and it is not a data: URL. "
            "A string opens no file, because anybody may have written it: give a file as a pathlib.Path, or its bytes."
        )
    return source
