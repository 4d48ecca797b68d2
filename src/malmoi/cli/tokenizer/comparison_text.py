"""A comparison of tokenizers in the terminal: the tables that answer the first questions; the files have the others.

Place in the flow: `compare.py` -> here. Read next: `malmoi.text.microscope.tables`, whose rows these are.
"""

import sys
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.table import Table as Printed
from rich.text import Text

from malmoi.text.microscope.bill import bill_table, exchange_note, price_table
from malmoi.text.microscope.comparison import Comparison
from malmoi.text.microscope.measures import COSTS
from malmoi.text.microscope.tables import (
    Table,
    border_table,
    genre_table,
    morpheme_note,
    text_table,
    token_table,
)

WIDE = 200
"""Columns of a line that no terminal cuts: in a file or a pipe."""


def print_comparison(comparison: Comparison, price_file: Path) -> None:
    """Print what Korean costs, what the tokens are like, the genres and the bill, and what all of it rests on."""
    # Names and paths are theirs: [x] in one of them is no mark-up.
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else WIDE)
    tables = [text_table(comparison), token_table(comparison), border_table(comparison)]
    if len(comparison.material.genres) > 1:
        tables.append(genre_table(comparison, COSTS[0]))
    for table in [*tables, bill_table(comparison), price_table(comparison)]:
        console.print(_printed(table))
    sizes = ", ".join(f"{genre.name} {genre.num_bytes:,}" for genre in comparison.material.genres)
    for note in (
        f"Measured, in bytes: {sizes}.",
        morpheme_note(comparison),
        f"{exchange_note(comparison)}. Prices are examples of their day: see {price_file}; yours: --prices FILE.",
    ):
        console.print(note, style="dim", soft_wrap=True)


def _printed(table: Table) -> Group:
    printed = Printed(
        box=SIMPLE_HEAD, header_style="bold", padding=(0, 0, 0, 1), pad_edge=False, show_edge=False
    )
    for number, title in enumerate(table.header):
        printed.add_column(Text(title), justify="right" if number else "left", overflow="fold")
    for row, cells in enumerate(table.rows):
        styles = ("bold green" if (row, column) in table.best else "" for column in range(len(cells)))
        printed.add_row(*map(Text, cells, styles))
    return Group(Text.assemble((table.title, "bold cyan"), (f"  {table.korean}", "dim")), printed, Text())
