import pytest

from malmoi.text.microscope.bill import bill_table, price_table
from malmoi.text.microscope.comparison import Comparison
from malmoi.text.microscope.measures import COSTS
from malmoi.text.microscope.tables import (
    ABSENT,
    Table,
    border_table,
    genre_table,
    material_table,
    morpheme_note,
    text_table,
    token_table,
)


@pytest.mark.parametrize(
    "make", [text_table, token_table, border_table, bill_table, price_table, material_table]
)
def test_every_row_has_a_cell_for_each_column(make: object, comparison: Comparison) -> None:
    table = make(comparison)  # type: ignore[operator]
    assert isinstance(table, Table)
    assert table.rows
    assert {len(row) for row in table.rows} == {len(table.header)}


def test_the_best_is_marked_and_nothing_else(comparison: Comparison) -> None:
    table = genre_table(comparison, COSTS[0])
    assert table.header == ("", "뉴스", "english")
    assert [row[0] for row in table.rows] == ["bytes", "<글자>"]
    assert table.best == {(1, 1)}
    assert table.rows[0][2] == table.rows[1][2] == ABSENT


def test_where_all_are_alike_none_is_best(comparison: Comparison) -> None:
    table = token_table(comparison)
    restored = table.header.index("texts restored")
    assert {row[restored] for row in table.rows} == {"100.0%"}
    assert not {column for _, column in table.best} & {restored}


def test_the_note_says_who_found_the_morphemes_and_in_how_much(comparison: Comparison) -> None:
    assert morpheme_note(comparison) == "Morphemes by a test: 3 words, 1 texts."
