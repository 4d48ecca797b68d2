"""A `Report` in the terminal: what the machine can do, and how near to it the model comes.

Read next: `plot.py`, the same as a picture.
"""

from collections.abc import Callable

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from malmoi.bench.report import Report, Row
from malmoi.bench.rounds import Spread

LEGEND = (
    "ms: until a prompt's first token, or of a token of every sequence; median (lowest-highest) of the rounds.\n"
    "limit: tokens/s that memory or arithmetic allow; of it: what was reached, within the same round."
)


def as_table(report: Report) -> Group:
    """Everything that a person wants to see, in 80 columns."""
    machine = Table.grid(padding=(0, 2))
    for label, value in facts(report):
        machine.add_row(Text(label, "dim"), value)
    rows = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    rows.add_column("work 일", no_wrap=True)
    for column in ("tokens/s", "ms", "limit 한계", "of it"):
        rows.add_column(column, justify="right", no_wrap=True)
    rows.add_column("bound by", no_wrap=True)
    for row in report.rows:
        rows.add_row(*cells(row))
    return Group(machine, rows, Text(LEGEND, "dim"))


def facts(report: Report) -> list[tuple[str, str]]:
    """What was measured on what."""
    found = [
        ("model 모델", f"{report.name}: {report.num_parameters / 1e6:,.1f} M parameters, {report.precision}"),
        ("machine 기계", str(report.machine)),
        ("reading 메모리", f"{spread(report.bandwidth, lambda x: f'{x / 1e9:.1f}')} GB/s"),
        (
            "products 행렬곱",
            f"{spread(report.matrix_rate, lambda x: f'{x / 1e12:.2f}')} TFLOP/s ({report.best_product})",
        ),
        (
            "peak memory",
            f"{report.peak_bytes / 2**30:.2f} GiB, of which weights {report.weight_bytes / 2**30:.2f}",
        ),
        ("rounds 횟수", str(report.num_rounds)),
    ]
    if report.weight_bytes < report.machine.last_cache:
        found.append(
            ("note 참고", "the weights fit the last-level cache, which is faster than memory's limit")
        )
    return found


def cells(row: Row) -> tuple[str, ...]:
    """A workload, a column each."""
    limit = row.tokens_per_second / row.share.median
    return (
        row.name,
        f"{row.tokens_per_second:,.1f}",
        spread(row.seconds, lambda seconds: f"{seconds * 1e3:,.1f}"),
        f"{limit:,.1f}",
        f"{row.share.median:.0%}",
        row.bound,
    )


def spread(value: Spread, form: Callable[[float], str]) -> str:
    """The median, and what it lies between.

    >>> spread(Spread(2.5, 2.0, 4.0), "{:.1f}".format)
    '2.5 (2.0-4.0)'
    """
    return f"{form(value.median)} ({form(value.low)}-{form(value.high)})"
