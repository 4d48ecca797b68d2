"""What `malmoi tokenizer compare` reads: tokenizers by name, genres, pairs, and texts with their morphemes.

    files -> data/ -> SAMPLES of a stated size -> malmoi.text.microscope

Read next: `compare.py`.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path

from malmoi.cli.tokenizer.corpus import source
from malmoi.core.errors import ConfigError, DataError
from malmoi.data.documents import Conversation, Document, Text
from malmoi.data.files import COMPRESSIONS, FORMATS, OnBadBytes, Row, data_format, find_files, read_rows
from malmoi.data.sources import SourceConfig, read_documents
from malmoi.text.microscope.analysed import Analysed, read_analysed
from malmoi.text.microscope.genre import Genre, Sampler

PIECE_CHARACTERS = 2_000
"""A longer text is cut, so that a sample is of many documents."""
MAX_GENRES = 40


def named(specs: Sequence[str]) -> dict[str, str]:
    """Read `NAME=PATH`, or `PATH`, whose last part is then the name.

    Raises:
        ConfigError: two have the same name.

    >>> named(["ours=out/tokenizer", "models/tekken.json"])
    {'ours': 'out/tokenizer', 'tekken.json': 'models/tekken.json'}
    """
    found: dict[str, str] = {}
    for spec in specs:
        name, equals, path = spec.partition("=")
        if not equals or Path(spec).exists():
            name, path = Path(os.path.abspath(spec)).name.partition("#")[0], spec
        if name in found:
            raise ConfigError(f"{found[name]} and {path} are both called {name!r}. Write NAME={path}.")
        found[name] = path
    return found


def read_genres(
    files: Sequence[str],
    *,
    by: str | None,
    is_held_out: bool,
    field: str,
    max_bytes: int,
    errors: OnBadBytes = "strict",
) -> tuple[Genre, ...]:
    """Sample one genre a file, or one a value of the field `by` of the rows, up to the first colon in it.

    The text of a row is in `field`, or in the one that is named after the file, `FILE#FIELD`; a field that holds chat
    messages gives their contents. With `is_held_out` only what `malmoi tokenizer train` does not learn from is read.

    Raises:
        DataError: a file cannot be read, a row has no such field, or there is no text.
        ConfigError: two files have one name, or the field `by` has more than `MAX_GENRES` values.
    """
    samplers: dict[str, Sampler] = {}
    for name, path in named(files).items():
        read_as = source(
            path,
            field=field,
            errors=errors,
            max_characters=PIECE_CHARACTERS,
            holdout_permille=SourceConfig.holdout_permille if is_held_out else 0,
        )
        documents = read_documents(read_as, split="held-out" if is_held_out else "train")
        genre = _without_ending(name)
        if by is None:
            if genre in samplers:
                raise ConfigError(f"two files are called {genre!r}. Write NAME={path} for one of them.")
            samplers[genre] = Sampler(max_bytes)
        for value, document in _grouped(read_as, documents, by) if by else zip(repeat(genre), documents):
            if by and value not in samplers and len(samplers) == MAX_GENRES:
                raise ConfigError(f"the field {by!r} has more than {MAX_GENRES} values. Use another field.")
            for text in _texts(document):
                samplers.setdefault(value, Sampler(max_bytes)).add(text)
    return tuple(_genre(value, sampler, is_held_out=is_held_out) for value, sampler in samplers.items())


def _genre(name: str, sampler: Sampler, *, is_held_out: bool) -> Genre:
    genre = sampler.genre(name)
    if not genre.num_eojeols:
        remedy = "Leave out --held-out, or give more" if is_held_out else "Give a file that has some"
        raise DataError(f"the genre {name} has no {'held-out ' * is_held_out}text. {remedy}.")
    return genre


def with_genre(genres: tuple[Genre, ...], another: Genre) -> tuple[Genre, ...]:
    """Add a genre. Raises `ConfigError` if one has its name."""
    if another.name in {genre.name for genre in genres}:
        raise ConfigError(f"two genres are called {another.name!r}. Write NAME=FILE for one of them.")
    return (*genres, another)


def read_pairs(spec: str, *, max_bytes: int) -> tuple[Genre, tuple[tuple[str, str], ...]]:
    """Sample the rows of a parallel text, each with the fields `ko` and `en`: its Korean as a genre, and the pairs.

    Raises:
        DataError: a row has no such texts, or there is no row.
    """
    [(name, path)] = named([spec]).items()
    sampler = Sampler(max_bytes)
    for row in _rows(path):
        korean, english = (row.fields.get(language) for language in ("ko", "en"))
        if not isinstance(korean, str) or not isinstance(english, str):
            raise DataError(f"{row.where}: a row of parallel text has the texts ko and en. {_has(row)}")
        sampler.add(korean, english)
    pairs = tuple((korean, english) for korean, english in sampler.items())
    if not pairs:
        raise DataError(f"{path} has no rows. Give a file with the fields ko and en.")
    return sampler.genre(_without_ending(name)), pairs


def read_treebank(path: str) -> tuple[Analysed, ...]:
    """Read every row of a file whose texts have their morphemes. Raises `DataError` for another row, or none."""
    analysed = tuple(read_analysed(row.fields, row.where) for row in _rows(path))
    if not analysed:
        raise DataError(f"{path} has no rows. Give a file with the fields text and tokens.")
    return analysed


def _rows(path: str, errors: OnBadBytes = "strict") -> Iterator[Row]:
    files = find_files(path)
    for file in files:
        if data_format(file) == ".txt":
            raise DataError(f"{file} is plain text, but rows with fields are needed: JSON Lines or Parquet.")
    return chain.from_iterable(read_rows(file, errors) for file in files)


def _grouped(read_as: SourceConfig, documents: Iterator[Document], by: str) -> Iterator[tuple[str, Document]]:
    """Give each document with the genre of its row: both come in the order of the files."""
    rows = _rows(read_as.path, read_as.errors)
    row: Row | None = None
    for document in documents:
        while row is None or row.where != document.where:
            row = next(rows)
        value = row.fields.get(by)
        if not isinstance(value, str):
            raise DataError(
                f"{row.where}: the field {by!r}, which is to tell the genre, is no text. {_has(row)}"
            )
        yield value.partition(":")[0], document


def _texts(document: Document) -> list[str]:
    match document:
        case Text():
            return [document.text]
        case Conversation():
            contents = (message.get("content") for message in document.messages)
            return [content for content in contents if isinstance(content, str)]
        case _:
            raise DataError(f"{document.where} has no plain text. Name the files that it was made of.")


def _has(row: Row) -> str:
    return f"Its fields are: {', '.join(row.fields) or 'none'}."


def _without_ending(name: str) -> str:
    """The name of a file without the endings that tell its format.

    >>> _without_ending("ntrex.dev.jsonl.zst"), _without_ending("reviews")
    ('ntrex.dev', 'reviews')
    """
    for endings in (COMPRESSIONS, FORMATS):
        for ending in endings:
            name = name.removesuffix(ending)
    return name
