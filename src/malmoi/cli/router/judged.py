"""What both commands about routers share: the files of judged rows, read with a counter on the terminal.

Place in the flow: `train.py` and `report.py` use it. Read next: `malmoi/router/judged.py`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from malmoi.router.judged import Judged

FILES = click.argument("files", nargs=-1, required=True, metavar="JUDGED...")


def read(files: Sequence[str]) -> "list[Judged]":
    """The rows of all files. Raises DataError for one that is wrong, with file and line."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    from malmoi.router.judged import read_judged

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("reading judged rows"), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        return list(bar.track(read_judged(files)))
