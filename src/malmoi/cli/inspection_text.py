"""An `Inspection` in the terminal, as a drawing in box characters and tables, or as JSON.

Read next: `inspection_page.py`, the same as a picture.
"""

import dataclasses
import json
from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from malmoi.cli.inspection import Inspection, count, operations
from malmoi.core.quantities import memory
from malmoi.models.diagram import Column, Layers, Part

WIDTH = 78


def print_inspection(found: Inspection, console: Console | None = None) -> None:
    """Print everything; to standard output if there is no `console`."""
    console = console or Console(highlight=False)
    parent = f", grew from {found.grew_from}" if found.grew_from else ""
    title = Text.assemble((found.name, "bold"), (f"  {found.model_type}{parent}", "dim"))
    ideas = Text("\n").join(Text(f"· {idea}") for idea in found.ideas)
    console.print(Group(title, ideas, Text()))
    for column in found.columns:
        console.print(draw(column))
    console.print(parameter_table(found), memory_table(found))


def to_json(found: Inspection) -> str:
    """The numbers and the drawing's parts; keys are the names of `Inspection`'s fields."""
    return json.dumps(dataclasses.asdict(found), ensure_ascii=False, indent=2)


# --- the drawing -------------------------------------------------------------------------------------------


def draw(column: Column) -> Group:
    """One stack, top to bottom; the line on the left is the residual stream.

    >>> part = Part("Linear", ("4 → 6",), 24)
    >>> Console(width=60).print(draw(Column("decoder", (part,))))
    decoder
    ╭──────────────────────────────────────────────────────────╮
    │ Linear               4 → 6                            24 │
    ╰──────────────────────────────────────────────────────────╯
    """
    boxes = [
        _layers(item) if isinstance(item, Layers) else Panel(_part(item, item.num_parameters), width=WIDTH)
        for item in column.items
    ]
    arrow = Text("  │", "cyan")
    between = [piece for box in boxes for piece in (arrow, box)][1:]
    return Group(Text(column.title, "bold cyan"), *between)


def _layers(layers: Layers) -> Panel:
    rows: list[Table | Text] = []
    for sublayer in layers.sublayers:
        if isinstance(sublayer, Part):
            rows.append(_part(sublayer))
            continue
        rows.append(Text("├─╮", "cyan"))
        rows += [_beside(part) for part in sublayer.inside]
        rows.append(Text("⊕◄╯", "cyan"))
        rows += [_part(part) for part in sublayer.after]
    is_one = len(layers.numbers) == 1
    title = "layer" if is_one else f"{len(layers.numbers)} layers:"
    return Panel(
        Group(*rows),
        title=f"[bold]{title}[/] [dim]{layers.ranges}[/]",
        title_align="left",
        subtitle=f"[dim]{count(layers.num_parameters)}{'' if is_one else ' each'}[/]",
        subtitle_align="right",
        border_style="cyan",
        width=WIDTH,
    )


def _part(part: Part, num_parameters: int | None = None) -> Table:
    table = Table.grid(expand=True, padding=(0, 1, 0, 0))
    table.add_column(width=20, no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    number = "" if num_parameters is None else count(num_parameters)
    table.add_row(Text(part.name, "bold"), Text("\n").join(map(Text, part.details)), Text(number, "dim"))
    return table


def _beside(part: Part) -> Table:
    """A part with the residual stream on its left, as long as it is."""
    table = Table.grid(expand=True)
    table.add_column(width=2)
    table.add_column(ratio=1)
    stream = "\n".join(["│ "] * max(1, len(part.details)))
    table.add_row(Text(stream, "cyan"), _part(part))
    return table


# --- the tables --------------------------------------------------------------------------------------------


def parameter_table(found: Inspection) -> Table:
    """Parameters, and operations a token."""
    table = _table("parameters and work", "매개변수와 계산량", "")
    for label, value in count_rows(found):
        table.add_row(label, value)
    return table


def count_rows(found: Inspection) -> Iterator[tuple[str, str]]:
    """What is counted, and how much of it."""
    parameters = found.parameters
    yield "parameters", f"{count(parameters.total)} ({parameters.total:,})"
    if parameters.active != parameters.total:
        yield "  active for a token", f"{count(parameters.active)} ({parameters.active:,})"
    yield "  of embeddings and head", count(parameters.tables)
    for length, flops in found.decode_flops.items():
        yield f"a token generated after {length - 1:,} others", operations(flops)
    yield "a token of a whole sequence", operations(found.forward_flops)
    yield "  in training (3 ×)", operations(3 * found.forward_flops)


def memory_rows(found: Inspection) -> Iterator[tuple[str, ...]]:
    """What takes memory, by precision: weights, then the cache of one sequence at each length."""
    yield "weights", *map(memory, found.weights.values())
    for length in next(iter(found.cache.values()), ()):
        sizes = (found.cache.get(name) for name in found.weights)
        yield f"cache of {length:,} tokens", *("" if kept is None else memory(kept[length]) for kept in sizes)


def peak_rows(found: Inspection) -> Iterator[tuple[str, str]]:
    """The most that is alive at a time."""
    sequences = "one sequence" if found.batch == 1 else f"{found.batch} sequences"
    what = "generating" if found.cache else "encoding"
    yield f"{what} {sequences} of {found.context:,} tokens, {found.dtype}", memory(found.peak)
    yield "training's state: weights, gradients, AdamW, fp32", memory(found.training_state)
    if found.training_peak is not None:
        yield f"a training step on {sequences} of {found.context:,}, bf16", memory(found.training_peak)


def memory_table(found: Inspection) -> Group:
    """Memory by precision and length, and the peaks."""
    table = _table("memory", "메모리", *found.weights)
    for row in memory_rows(found):
        table.add_row(*row)
    peaks = _table("peak", "최대 메모리", "")
    for peak in peak_rows(found):
        peaks.add_row(*peak)
    return Group(table, peaks)


def _table(title: str, korean: str, *columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, width=WIDTH, header_style="bold", pad_edge=False)
    table.add_column(Text.assemble((title, "bold cyan"), (f"  {korean}", "dim")))
    for column in columns:
        table.add_column(column, justify="right")
    return table
