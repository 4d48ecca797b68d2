"""A training run in the terminal: the plan, the mask of a few samples, a progress bar."""

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress as Bar, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from malmoi.train.checkpoint import Progress
from malmoi.train.config import RunConfig
from malmoi.train.loop import Observer
from malmoi.train.plan import Plan
from malmoi.train.preview import MaskedSample

LINES_EVERY = 10  # steps, where there is no terminal to draw a bar in


class TerminalObserver(Observer):
    """Draws a run; where the output is no terminal it prints a line every few steps instead of a bar."""

    def __init__(self) -> None:
        self.console = Console()
        columns = "{task.fields[tokens_per_second]:,.0f} tok/s  loss {task.fields[loss]:.3f}  {task.fields[bits]}"
        self.bar = Bar(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(),
            TextColumn(columns),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def on_plan(self, plan: Plan, progress: Progress, config: RunConfig) -> None:
        table = Table(title=f"plan of {config.out}", show_header=False, title_justify="left")
        for label, value in plan.lines():
            table.add_row(label, value)
        self.console.print(table)
        if progress.step:
            self.console.print(f"resuming after step {progress.step:,}")

    def on_masked_samples(self, samples: list[MaskedSample]) -> None:
        self.console.print("what is learned (green) of a few samples:")
        for sample in samples:
            line = Text()
            for piece, is_learned in sample.pieces:
                line.append(piece, style="bold green" if is_learned else "dim")
            line.append(f"   [{sample.num_learned} of {sample.num_tokens} tokens]", style="cyan")
            self.console.print(line)

    def on_step(self, row: dict[str, Any], num_steps: int) -> None:
        bits = "" if row["bits_per_byte"] is None else f"{row['bits_per_byte']:.3f} bits/byte"
        if self.bar.disable:
            if row["step"] % LINES_EVERY == 0 or row["step"] in (1, num_steps):
                speed = f"{row['tokens_per_second']:,.0f} tok/s"
                print(f"step {row['step']}/{num_steps}  loss {row['loss']:.4f}  {bits}  {speed}", flush=True)
            return
        fields = {"tokens_per_second": row["tokens_per_second"], "loss": row["loss"], "bits": bits}
        if self.task is None:
            self.bar.start()
            self.task = self.bar.add_task("", total=num_steps, completed=row["step"] - 1, **fields)
        self.bar.update(self.task, completed=row["step"], **fields)

    def on_evaluation(self, step: int, held_out_bits_per_byte: float) -> None:
        self.console.print(f"step {step}: held out {held_out_bits_per_byte:.4f} bits per byte")

    def on_checkpoint(self, path: Path) -> None:
        if not self.console.is_terminal:
            self.console.print(f"saved {path.name}")
