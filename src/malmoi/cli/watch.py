"""A training run in the terminal: the plan, the mask of a few samples, a progress bar.

`malmoi train` hands this observer to `train.loop`, which calls it.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from malmoi.train.checkpoint import Progress
from malmoi.train.config import RunConfig
from malmoi.train.loop import Observer
from malmoi.train.metrics import Row
from malmoi.train.plan import Plan
from malmoi.train.preview import MaskedSample
from malmoi.train.report import format_measured

LINES_EVERY = 10  # steps, where there is no terminal to draw a bar in


class TerminalObserver(Observer):
    """Draws a run; where the output is no terminal it prints a line every few steps instead of a bar.

    Use it in a `with` statement, which gives the terminal back.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        numbers = "{task.fields[speed]:,.0f} tok/s  loss {task.fields[loss]:.3f}  {task.fields[bits]}"
        self.bar = Bar(
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            BarColumn(),
            TextColumn(numbers),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task: TaskID | None = None

    def __enter__(self) -> "TerminalObserver":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def on_masked_samples(self, samples: list[MaskedSample]) -> None:
        self.console.print("what is learned (green) of a few samples 배우는 곳 (초록색):")
        for sample in samples:
            line = Text()
            for piece, is_learned in sample.pieces:
                line.append(piece, style="bold green" if is_learned else "dim")
            line.append(f"   {sample.num_learned} of {sample.num_tokens} tokens", style="cyan")
            self.console.print(line)

    def on_plan(self, plan: Plan, progress: Progress, config: RunConfig) -> None:
        table = Table(title=f"plan of {config.out}", show_header=False, title_justify="left")
        for label, value in plan.lines():
            table.add_row(label, value)
        self.console.print(table)
        if progress.step:
            self.console.print(f"resuming after step {progress.step:,}")

    def on_step(self, row: Row, num_steps: int) -> None:
        step, speed, loss = row["step"], row["tokens_per_second"], row["loss"]
        bits = "" if row["bits_per_byte"] is None else f"{row['bits_per_byte']:.3f} bits/byte"
        if self.bar.disable:
            if step % LINES_EVERY == 0 or step in (1, num_steps):
                self.console.print(f"step {step}/{num_steps}  loss {loss:.4f}  {bits}  {speed:,.0f} tok/s")
            return
        if self.task is None:
            self.bar.start()
            self.task = self.bar.add_task("", total=num_steps, completed=step - 1, speed=0, loss=0, bits="")
        self.bar.update(self.task, completed=step, speed=speed, loss=loss, bits=bits)

    def on_evaluation(self, step: int, measured: Mapping[str, float]) -> None:
        self.console.print(f"step {step}: held out: {format_measured(measured)}")

    def on_checkpoint(self, path: Path) -> None:
        if self.bar.disable:
            self.console.print(f"saved {path.name}")
