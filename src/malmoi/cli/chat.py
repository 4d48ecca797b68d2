"""`malmoi chat [PROMPT]`: talk with a model, in a terminal, through a pipe, or for one question.

In a terminal the line editor (prompt_toolkit) handles Korean input; Ctrl-C stops the answer, not the
program. Through a pipe every line of standard input is a question, and answers are all that is written.
Read next: `conversation.py`, what is kept; `slash.py`, the commands; `thoughts.py`.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Any

import click

from malmoi.cli.engine import EngineSettings, engine_options
from malmoi.cli.main import show_error
from malmoi.cli.sampling import sampling_changes, sampling_options
from malmoi.cli.sections import GeneratingCommand
from malmoi.cli.stdin import read_argument_or_stdin, stdin_lines
from malmoi.core.errors import MalmoiError

if TYPE_CHECKING:
    from malmoi.cli.conversation import Conversation
    from malmoi.cli.thoughts import AnswerView


@click.command(cls=GeneratingCommand, short_help="Talk with a model. 모델과 이야기합니다.")
@click.argument("prompt", required=False)
@click.option("--system", default="", metavar="TEXT", help="What the model is told before the conversation.")
@click.option("--think/--no-think", "thinks", default=None, help="Think before answering, or do not.")
@click.option(
    "--thought-budget", type=click.IntRange(min=0), metavar="N", help="At most so many tokens of thought."
)
@click.option("--hide-thought", is_flag=True, help="Say how long it thought, instead of what.")
@sampling_options
@engine_options
def chat(
    prompt: str | None,
    system: str,
    thinks: bool | None,
    thought_budget: int | None,
    hide_thought: bool,
    model: str | None,
    settings: EngineSettings,
    **options: Any,
) -> None:
    """Talk with a model. 모델과 이야기합니다.

    With PROMPT (`-`: read it from standard input), answer it and leave. Without, open a conversation:
    /help there lists what else can be typed. If standard input is not a terminal, each of its lines is
    a question.
    """
    from malmoi.cli.conversation import Conversation
    from malmoi.cli.loading import load_llm
    from malmoi.cli.thoughts import AnswerView, ThoughtView

    changes = sampling_changes(**options)
    question = None if prompt is None else read_argument_or_stdin(prompt)
    in_terminal = question is None and sys.stdin.isatty() and sys.stdout.isatty()
    if in_terminal:  # before the model is there: loading takes a while
        click.echo("말모이 Malmoi. /help: 도움말. Ctrl-C: 답 멈춤, stop. Ctrl-D: 나가기, leave.")
    llm = load_llm(model, settings)
    conversation = Conversation(
        llm,
        replace(llm.default_params, **changes),
        system=system,
        thinks=thinks,
        thought_budget=thought_budget,
    )
    view = partial(ThoughtView, is_folded=hide_thought) if sys.stdout.isatty() else AnswerView
    if question is not None:
        _answer(conversation, question, view())
        return
    lines, take = (_typed_lines(), _take_forgivingly) if in_terminal else (stdin_lines(), _take)
    with suppress(EOFError):  # /exit
        for line in filter(str.strip, lines):
            take(conversation, line, view())


def _take_forgivingly(conversation: "Conversation", line: str, view: "AnswerView") -> None:
    """Take a line as a person's: a mistake is told and Ctrl-C stops the answer; the conversation goes on."""
    try:
        with _ctrl_c_as_event() as stop:
            _take(conversation, line, view, stop)
    except MalmoiError as error:
        show_error(error)


def _take(conversation: "Conversation", line: str, view: "AnswerView", stop: Event | None = None) -> None:
    from malmoi.cli.slash import run_command

    if line.startswith("/"):
        click.secho(run_command(conversation, line), dim=True)
    else:
        _answer(conversation, line, view, stop)


def _answer(
    conversation: "Conversation", question: str, view: "AnswerView", stop: Event | None = None
) -> None:
    """Show the answer as it comes, at most until `stop` is set."""
    with closing(conversation.ask(question)) as deltas:
        for delta in deltas:
            view.show(delta)
            if stop is not None and stop.is_set():
                break
    print(flush=True)
    if conversation.last and conversation.last.finish_reason == "length":
        click.secho(
            "(cut off: max_tokens, or the context is full; 길이 제한으로 잘렸습니다)", dim=True, err=True
        )


@contextmanager
def _ctrl_c_as_event() -> Iterator[Event]:
    """Turn Ctrl-C into an event, so that it stops an answer between two tokens, never inside the engine."""
    stop = Event()
    before = signal.signal(signal.SIGINT, lambda _signal, _frame: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _typed_lines() -> Iterator[str]:
    """Yield what is typed, edited with the keys of a shell; ends at Ctrl-D, and Ctrl-C drops the line."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    from malmoi.cli.slash import COMMANDS

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    names = [name for english, command in COMMANDS.items() for name in (english, command.korean)]
    completer = WordCompleter(names, sentence=True)
    session = PromptSession[str]([("bold", "> ")], completer=completer, key_bindings=keys)
    while True:
        try:
            yield session.prompt()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
