"""`malmoi router report`: what a router is worth on judged rows, beside chance and beside one that knows the outcome.

Read next: `malmoi/router/report.py`, what it calls.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from malmoi.cli.router.judged import FILES, read

if TYPE_CHECKING:
    from rich.console import Group

    from malmoi.router.tables import Table

_FILE = click.Path(path_type=Path, dir_okay=False, writable=True)


@click.command(short_help="Draw what a router is worth. 라우터의 값어치를 잽니다.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@FILES
@click.option("--html", type=_FILE, metavar="FILE", help="Write a page with the curve. 웹 페이지 파일.")
@click.option("--png", type=_FILE, metavar="FILE", help="Write the picture alone. 그림 파일.")
def report(directory: Path, files: tuple[str, ...], html: Path | None, png: Path | None) -> None:
    """Measure a router on judged answers. 라우터가 얼마나 잘 고르는지 잽니다.

    DIR is what `malmoi router train` has written. JUDGED has rows of the same form, others than it was trained on.
    """
    from rich.console import Console

    from malmoi.core.files import atomic_write, write_text
    from malmoi.router.page import as_html
    from malmoi.router.plot import draw, require_matplotlib
    from malmoi.router.report import report as measure
    from malmoi.router.router import Router
    from malmoi.router.tables import tables

    if html or png:
        require_matplotlib()
    router = Router.load(directory)
    judged = read(files)
    with Console(stderr=True).status("measuring"):
        found = measure(router, judged)
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 200)
    for table in tables(found):
        console.print(_printed(table))
    console.print(found.verdict, soft_wrap=True)
    if html:
        write_text(html, as_html(found, directory.name))
    if png:
        with atomic_write(png) as temporary:
            temporary.write_bytes(draw(found))


def _printed(table: "Table") -> "Group":
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table as Printed
    from rich.text import Text

    printed = Printed(
        box=SIMPLE_HEAD, header_style="bold", padding=(0, 0, 0, 1), pad_edge=False, show_edge=False
    )
    for number, name in enumerate(table.header):
        printed.add_column(Text(name), justify="right" if number else "left")
    for cells in table.rows:
        printed.add_row(*map(Text, cells))
    return Group(Text.assemble((table.title, "bold cyan"), (f"  {table.korean}", "dim")), printed, Text())
