"""Rows -> documents: which field is the text, which rows count, and which are held out.

    files.read_rows -> filter by source -> train | held-out -> Text | Conversation | Labelled, long texts in pieces
    token_files.TokenFile -> Tokenized, for which all of this was done before

Everything is streamed: memory is bounded by one row. Order is the order on disk; `mixture.py` shuffles.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from malmoi.core.errors import ConfigError, DataError
from malmoi.data.documents import Conversation, Document, Labelled, Text, Tokenized, pieces
from malmoi.data.files import OnBadBytes, Row, data_format, find_files, read_lines, read_rows
from malmoi.data.token_files import TokenFile
from malmoi.data.token_manifest import ReadingSetting

Split = Literal["train", "held-out"]


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    r"""One source of documents: a file, a directory or a glob of JSONL, text or Parquet files, or a token file.

    `weight` is its share of the *tokens* of a mixture, relative to the other sources' weights.

    A row becomes a text by `text_field`, or by `format` (a format string over the row's fields, for rows
    such as translation pairs), or a conversation when `messages_field` is set. A `.txt` file is one document
    (blank lines separate paragraphs, not documents; put many documents into JSONL). Blank texts are skipped.
    With `label_field` it becomes a labelled text, with `pair_field` besides a labelled pair of texts.

    `include` and `exclude` are prefixes of the row's `source` field; `"kind=title"` asks another field.
    A row is kept if some `include` matches (or there is none) and no `exclude` does. To down-weight part of
    a file rather than drop it, name the file twice with opposite filters and two weights.

    `holdout_permille` of the documents, by a stable hash, belong to the held-out split and are never trained
    on. The hash is taken of the `source` field, so that what comes from one page stays together, also across
    files. Where it names a whole collection, not a page, use `holdout_by="text"`: the content is hashed, as
    it is for rows without the field. A file that is there to be tested on, as a whole, has 1000.

    A text longer than `max_characters` is cut into pieces at line ends, shuffled like documents: otherwise
    one book would fill batch after batch. The first token of a later piece is nobody's target.

    `errors="replace"` reads bytes that are not UTF-8 as U+FFFD; otherwise they are a `DataError` with line and byte.

    A token file (`malmoi tokenizer encode-files`) is a directory of prose that was encoded before. It gives the same
    documents in the same order as its files do; all settings but `weight` must be those with which it was made.

    >>> SourceConfig(path="parallel.jsonl", format="{ko}\n{en}", exclude=("scrollmapper/",)).weight
    1.0
    """

    path: str
    weight: float = 1.0
    text_field: str = "text"
    format: str | None = None
    messages_field: str | None = None
    pair_field: str | None = None
    label_field: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    holdout_permille: int = 5
    holdout_by: Literal["source", "text"] = "source"
    max_characters: int = 10_000
    errors: OnBadBytes = "strict"

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise ConfigError(
                f"weight={self.weight} of source {self.path}. Use a number above 0, or drop the source."
            )
        if not 0 <= self.holdout_permille <= 1000:
            raise ConfigError(
                f"holdout_permille={self.holdout_permille} of source {self.path}. Use 0 to 1000."
            )
        if self.max_characters < 1:
            raise ConfigError(f"max_characters={self.max_characters} of source {self.path}. Use 1 or more.")
        if self.format is not None and self.messages_field is not None:
            raise ConfigError(
                f"source {self.path} sets both format and messages_field. A row is one or the other."
            )
        if self.label_field is not None and self.messages_field is not None:
            raise ConfigError(
                f"source {self.path} sets both label_field and messages_field. A row is one or the other."
            )
        if self.pair_field is not None and self.label_field is None:
            raise ConfigError(
                f"source {self.path} sets pair_field={self.pair_field!r} without a label_field: nothing is said of "
                "the pair. Set label_field, or use format to make one text of both."
            )


def read_documents(
    source: SourceConfig, *, split: Split = "train", file_order: Random | None = None
) -> Iterator[Document]:
    """Stream one pass over the documents of `source` that belong to `split`.

    Files come sorted by name, or in the order that `file_order` shuffles them into. Raises `DataError`
    naming file and line for a row that is not what the config says.
    """
    if TokenFile.is_at(source.path):
        tokens = TokenFile(source.path)
        tokens.require_reading(reading_settings(source))
        chosen = tokens.documents(is_held_out=split == "held-out", file_order=file_order)
        yield from (Tokenized(shard=shard, number=number) for shard, number in chosen)
        return
    files = find_files(source.path)
    if file_order is not None:
        file_order.shuffle(files)
    for file in files:
        yield from (document for of_split, document in read_file(file, source) if of_split == split)


def read_file(file: Path, source: SourceConfig) -> Iterator[tuple[Split, Document]]:
    """Stream the documents of one data file, each with the split that it belongs to. Raises as `read_documents`."""
    return _read_text(file, source) if data_format(file) == ".txt" else _read_rows(file, source)


def reading_settings(source: SourceConfig) -> dict[str, ReadingSetting]:
    """What decides which documents a file has: all that a source says, but for where it is and how much it counts.

    >>> reading_settings(SourceConfig(path="a.jsonl", holdout_permille=20))["holdout_permille"]
    20
    """
    return {name: value for name, value in asdict(source).items() if name not in ("path", "weight")}


def iterate_texts(
    sources: SourceConfig | str | Path | Sequence[SourceConfig], *, split: Split = "train"
) -> Iterator[str]:
    """Stream the plain texts of one or several sources, one pass, in order: what a tokenizer trains on.

    Of a conversation it yields the content of each message, of a labelled pair both texts.
    """
    if isinstance(sources, (str, Path)):
        sources = SourceConfig(path=str(sources))
    for source in [sources] if isinstance(sources, SourceConfig) else sources:
        for document in read_documents(source, split=split):
            match document:
                case Text():
                    yield document.text
                case Labelled():
                    yield from (text for text in (document.text, document.pair) if text is not None)
                case Conversation():
                    contents = (message.get("content") for message in document.messages)
                    yield from (content for content in contents if isinstance(content, str))
                case Tokenized():
                    raise DataError(
                        f"{source.path} is a token file, and has ids but no texts. Name the files that it was made of."
                    )


def _read_rows(file: Path, source: SourceConfig) -> Iterator[tuple[Split, Document]]:
    for row in read_rows(file, source.errors):
        if not _passes(row, source):
            continue
        key = row.fields.get("source") if source.holdout_by == "source" else None
        if source.messages_field is not None:
            messages = _messages(row, source.messages_field)
            split = _split_of(str(key or messages), source.holdout_permille)
            yield split, Conversation(messages=tuple(messages), where=row.where)
        elif (text := _text(row, source)).strip():
            split = _split_of(str(key or text), source.holdout_permille)
            if source.label_field is not None:
                yield split, _labelled(row, text, source)
            else:
                yield from ((split, piece) for piece in _cut(text, row.where, source.max_characters))


def _cut(text: str, where: str, max_characters: int) -> Iterator[Text]:
    is_start = True
    for piece, is_end in pieces([text], max_characters):
        yield Text(text=piece, where=where, is_start=is_start, is_end=is_end)
        is_start = False


def _read_text(file: Path, source: SourceConfig) -> Iterator[tuple[Split, Document]]:
    """A file of any size: cut into pieces while it is read, and split by piece, not as a whole."""
    for index, (text, is_end) in enumerate(pieces(read_lines(file, source.errors), source.max_characters)):
        key = text if source.holdout_by == "text" else f"{file.name}#{index}"
        if text.strip():
            document = Text(text=text, where=f"{file}#{index}", is_start=index == 0, is_end=is_end)
            yield _split_of(key, source.holdout_permille), document


def _text(row: Row, source: SourceConfig) -> str:
    if source.format is not None:
        try:
            return source.format.format_map({k: v for k, v in row.fields.items() if v is not None})
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise DataError(
                f"{row.where}: format={source.format!r} does not fit ({error}). {_fields(row)}"
            ) from None
    text = row.fields.get(source.text_field)
    if not isinstance(text, str):
        raise _misfit(row, "text_field", source.text_field)
    return text


def _labelled(row: Row, text: str, source: SourceConfig) -> Labelled:
    pair, label = (row.fields.get(name) if name else None for name in (source.pair_field, source.label_field))
    if source.pair_field is not None and not isinstance(pair, str):
        raise _misfit(row, "pair_field", source.pair_field)
    if isinstance(label, bool) or not isinstance(label, str | int | float):
        raise _misfit(row, "label_field", str(source.label_field))
    return Labelled(text=text, pair=pair if isinstance(pair, str) else None, label=label, where=row.where)


def _messages(row: Row, field: str) -> list[Mapping[str, Any]]:
    messages = row.fields.get(field)
    if (
        not isinstance(messages, list)
        or not messages
        or not all(isinstance(m, dict) and "role" in m for m in messages)
    ):
        raise _misfit(row, "messages_field", field, ', not a list of {"role": ..., "content": ...} objects')
    return messages


def _misfit(row: Row, setting: str, field: str, wanted: str = "") -> DataError:
    """The error of a row whose `field`, named by `setting`, is of another kind than is wanted."""
    remedy = _fields(row)
    if field not in row.fields:
        kind = "absent"
    elif row.fields[field] is None:
        kind, remedy = "null", "Fill it in, or leave the row out of the file."
    else:
        kind = f"of type {type(row.fields[field]).__name__}"
    return DataError(f"{row.where}: {setting}={field!r} is {kind}{wanted}. {remedy}")


def _fields(row: Row) -> str:
    return (
        f"The row's fields are: {', '.join(row.fields) or 'none'}. Set text_field, format or messages_field, "
        "and pair_field or label_field where texts are labelled."
    )


def _passes(row: Row, source: SourceConfig) -> bool:
    if source.include and not any(_matches(row, rule) for rule in source.include):
        return False
    return not any(_matches(row, rule) for rule in source.exclude)


def _matches(row: Row, rule: str) -> bool:
    field, equals, prefix = rule.partition("=")
    if not (equals and field.isidentifier()):
        field, prefix = "source", rule
    return str(row.fields.get(field, "")).startswith(prefix)


def _split_of(key: str, holdout_permille: int) -> Split:
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return "held-out" if int.from_bytes(digest) % 1000 < holdout_permille else "train"
