"""What a model thinks before it answers, as `malmoi chat` shows it in a terminal: dimmed, or folded into one line.

Place in the flow: `chat.py` shows each delta by one of these; where no terminal is, the answer stands alone. Read next:
`malmoi/llm/reasoning.py`, which tells thoughts from answers.
"""

from time import perf_counter

import click

from malmoi.llm import Delta


class AnswerView:
    """Shows an answer as it comes, and nothing of its thought."""

    def show(self, delta: Delta) -> None:
        """Print what is new."""
        print(delta.text, end="", flush=True)


class ThoughtView(AnswerView):
    """Shows the thought dimmed above the answer; if it `is_folded`, one line instead that says how long it took."""

    def __init__(self, *, is_folded: bool) -> None:
        self._is_folded = is_folded
        self._began: float | None = None

    def show(self, delta: Delta) -> None:
        if delta.thought and self._began is None:
            self._began = perf_counter()
        if delta.thought and not self._is_folded:
            click.secho(delta.thought, dim=True, nl=False)
        if self._began is not None and (delta.text or delta.finish_reason):
            seconds, self._began = perf_counter() - self._began, None
            end = (
                f"(thought for {seconds:.1f} s; {seconds:.1f}초 생각했습니다)\n"
                if self._is_folded
                else "\n\n"
            )
            click.secho(end, dim=True, nl=False)
        super().show(delta)
