"""A comparison as tables of strings, which the terminal prints and page.py draws.

    comparison.py -> TABLES -> the terminal, page.py

Read next: `bill.py`, the tables about money, and `page.py`; `export.py` has the same figures for programs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from malmoi.text.microscope.comparison import Comparison, Examined
from malmoi.text.microscope.measures import COSTS, SHAPES, Measure

ABSENT = "–"
"""Stands where there is nothing to say: no Korean in a genre, no parallel text."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells under a header; `best` are the (row, column) of the best figures of their columns."""

    title: str
    korean: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class _Column:
    """The figures of all tokenizers for one thing, how they are written and which end is good, if one is."""

    title: str
    values: Sequence[float | None]
    form: str
    better: Literal["lower", "higher"] | None = None

    def cells(self) -> list[str]:
        return [ABSENT if value is None else format(value, self.form) for value in self.values]

    def best_rows(self) -> set[int]:
        """The rows whose figure, as it is written, is the best; none where all are the same."""
        cells, known = self.cells(), [value for value in self.values if value is not None]
        if self.better is None or len(set(cells) - {ABSENT}) < 2:
            return set()
        best = format(min(known) if self.better == "lower" else max(known), self.form)
        return {row for row, cell in enumerate(cells) if cell == best}


def text_table(comparison: Comparison) -> Table:
    """What the Korean text of all genres costs, and what the same content costs in English."""
    found = comparison.tokenizers
    columns = [_of_korean(found, measure) for measure in COSTS]
    pairs = [one.pairs.ratio if one.pairs else None for one in found]
    # Low also where English is dear, so that no end of it is the good one.
    columns.append(_Column("Korean / English", pairs, ".2f"))
    return _table("Korean text", "한국어 글", found, columns)


def token_table(comparison: Comparison) -> Table:
    """What the tokens are like: how many there are, whole or not, and what can be said in them."""
    found = comparison.tokenizers
    columns = [
        _Column("vocabulary", [one.vocab_size for one in found], ",d"),
        *(_of_korean(found, measure) for measure in SHAPES),
        _Column("one-token syllables", [one.coverage.num_single for one in found], ",d", "higher"),
        _Column("syllables restored", [one.coverage.num_exact for one in found], ",d", "higher"),
    ]
    return _table("tokens", "토큰", found, columns)


def border_table(comparison: Comparison) -> Table:
    """Whether tokens end where morphemes do."""
    found = comparison.tokenizers
    agreements = [one.agreement for one in found]
    columns = [
        _Column("precision", [one.precision if one else None for one in agreements], ".3f", "higher"),
        _Column("recall", [one.recall if one else None for one in agreements], ".3f", "higher"),
        _Column("F1", [one.f1 if one else None for one in agreements], ".3f", "higher"),
    ]
    return _table("borders of tokens and morphemes", "토큰 경계와 형태소 경계", found, columns)


def genre_table(comparison: Comparison, measure: Measure) -> Table:
    """One measure of every genre."""
    found = comparison.tokenizers
    columns = [
        _Column(
            genre.name, [measure.of(one.counts[genre.name]) for one in found], measure.form, measure.better
        )
        for genre in comparison.material.genres
    ]
    return _table(f"{measure.title} by genre", f"갈래별 {measure.korean}", found, columns)


def material_table(comparison: Comparison) -> Table:
    """What was measured."""
    rows = [
        (
            genre.name,
            *(
                f"{number:,}"
                for number in (len(genre.texts), genre.num_bytes, genre.num_characters, genre.num_syllables)
            ),
            "yes" if genre.is_korean else "no",
        )
        for genre in comparison.material.genres
    ]
    header = ("", "texts", "bytes", "characters", "syllables", "counts as Korean")
    return Table(title="what was measured", korean="잰 글", header=header, rows=tuple(rows))


def morpheme_note(comparison: Comparison) -> str:
    """Who found the morphemes, in how much text, and what could not be compared."""
    material = comparison.material
    if not material.analysed:
        return (
            "Borders of morphemes were not compared: there is no Korean text, or no analyser "
            "(pip install 'malmoi[morphemes]')."
        )
    num_words = sum(len(one.words) for one in material.analysed)
    note = f"Morphemes by {material.morphemes_from}: {num_words:,} words, {len(material.analysed):,} texts."
    lost = [
        f"{one.name} {one.agreement.num_lost:,}"
        for one in comparison.tokenizers
        if one.agreement and one.agreement.num_lost
    ]
    if lost:
        note += f" Texts that do not come back from their ids, and were left out: {', '.join(lost)}."
    return note


def _of_korean(found: Sequence[Examined], measure: Measure) -> _Column:
    values = [measure.of(one.korean) if one.korean else None for one in found]
    return _Column(measure.title, values, measure.form, measure.better)


def _table(title: str, korean: str, found: Sequence[Examined], columns: Sequence[_Column]) -> Table:
    names = [one.name for one in found]
    return Table(
        title=title,
        korean=korean,
        header=("", *(column.title for column in columns)),
        rows=tuple(zip(names, *(column.cells() for column in columns), strict=True)),
        best=frozenset(
            (row, number) for number, column in enumerate(columns, start=1) for row in column.best_rows()
        ),
    )
