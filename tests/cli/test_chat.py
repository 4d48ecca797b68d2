"""`malmoi chat`: for one question, through a pipe, and in a terminal."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from malmoi.cli.chat import chat
from malmoi.cli.thoughts import ThoughtView
from malmoi.core.errors import DataError, RequestError
from malmoi.llm import Delta

from .conftest import ParrotLLM


def run(*args: str, stdin: bytes = b"") -> Result:
    return CliRunner(catch_exceptions=True).invoke(chat, args, input=stdin)


def test_one_question_is_answered_and_that_is_all(parrot: ParrotLLM) -> None:
    assert run("안녕?", "--system", "짧게", "--temperature", "0").stdout == "안녕하세요.\n"
    messages, params = parrot.heard[0]
    assert messages == [{"role": "system", "content": "짧게"}, {"role": "user", "content": "안녕?"}]
    assert params.temperature == 0
    assert params.top_k == 7  # as the model's own defaults say


def test_an_answer_that_was_cut_off_says_so_beside_the_answer(parrot: ParrotLLM) -> None:
    result = run("안녕?", "--max-tokens", "1")
    assert result.stdout == "안녕\n"
    assert "cut off" in result.stderr


def test_a_wrong_parameter_is_refused_before_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("malmoi.llm.load", lambda _model, **_options: pytest.fail("was loaded"))
    assert isinstance(run("안녕?", "--top-p", "2").exception, RequestError)


def test_a_thought_is_no_part_of_an_answer_outside_of_a_terminal(parrot: ParrotLLM) -> None:
    parrot.thoughts = ["음…"]
    assert run("안녕?").stdout == "안녕하세요.\n"
    assert run(stdin="하나\n".encode()).stdout == "네, 좋아요.\n"


@pytest.mark.parametrize(
    ("args", "thinks", "budget"),
    [((), None, None), (("--think", "--thought-budget", "64"), True, 64), (("--no-think",), False, None)],
)
def test_the_model_is_told_whether_and_how_long_to_think(
    parrot: ParrotLLM, args: tuple[str, ...], thinks: bool | None, budget: int | None
) -> None:
    run("안녕?", *args)
    [prompt] = parrot.asked
    assert (prompt.thinks, prompt.thought_budget) == (thinks, budget)


def test_a_thought_is_shown_dimmed_above_the_answer_or_folded(capsys: pytest.CaptureFixture[str]) -> None:
    deltas = [Delta("", thought="음"), Delta("", thought="…"), Delta("네"), Delta("!", finish_reason="stop")]
    shown, folded = ThoughtView(is_folded=False), ThoughtView(is_folded=True)
    for delta in deltas:
        shown.show(delta)
    assert capsys.readouterr().out == "음…\n\n네!"  # without a terminal there is nothing to dim by
    for delta in deltas:
        folded.show(delta)
    assert re.fullmatch(r"\(thought for 0\.\d s; 0\.\d초 생각했습니다\)\n네!", capsys.readouterr().out)


def test_a_dash_reads_the_question_from_standard_input(parrot: ParrotLLM) -> None:
    run("-", stdin="첫 줄\n둘째 줄\n".encode())
    assert parrot.heard[0][0] == [{"role": "user", "content": "첫 줄\n둘째 줄"}]


def test_a_pipe_is_a_conversation_line_by_line_with_nothing_but_answers_on_it(parrot: ParrotLLM) -> None:
    assert run(stdin="하나\n\n둘\n".encode()).stdout == "안녕하세요.\n네, 좋아요.\n"
    assert len(parrot.heard) == 2


def test_commands_work_through_a_pipe_too(parrot: ParrotLLM) -> None:
    assert run(stdin="하나\n/끝\n둘\n".encode()).exit_code == 0
    assert len(parrot.heard) == 1


def test_an_error_ends_a_pipe(parrot: ParrotLLM) -> None:
    parrot.answers[0] = RequestError("prompt too long")
    result = run(stdin="하나\n둘\n".encode())
    assert isinstance(result.exception, RequestError)
    assert len(parrot.heard) == 1


def test_korean_that_is_not_utf8_is_refused_with_the_remedy(parrot: ParrotLLM) -> None:
    result = run(stdin="하나\n".encode() + "둘\n".encode("cp949"))
    assert isinstance(result.exception, DataError)
    assert "line 2: not UTF-8 (b5 d1 0a). Malmoi reads UTF-8" in str(result.exception)
    assert "CP949" in str(result.exception)


def test_an_argument_that_is_not_utf8_is_refused(parrot: ParrotLLM) -> None:
    result = run(os.fsdecode(b"\xb5\xd1"))
    assert isinstance(result.exception, DataError)
    assert parrot.heard == []


SLOW_PARROT = """
import time, sys
import malmoi.llm
from malmoi.cli.main import main
from malmoi.testing.models import tiny_llama

class Slow(malmoi.llm.LLM):
    def __init__(self):
        self.default_params = malmoi.SamplingParams()
        self.model = tiny_llama()
    def deltas(self, prompt, params):
        return malmoi.llm.DeltaStream(self.count(prompt.messages))
    def count(self, messages):
        yield malmoi.llm.Delta("", thought="들어보자")
        yield malmoi.llm.Delta("들었어요:" + messages[-1]["content"])
        for count in range(600):
            time.sleep(0.05)
            yield malmoi.llm.Delta(f" {count}")

malmoi.llm.load = lambda model, **options: Slow()
main(["chat"])
"""

CONTROLLING_TERMINAL = """
import fcntl, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that the key Ctrl-C becomes a signal, as in a shell
"""


class Terminal:
    """A real pseudo-terminal with `malmoi chat` in it."""

    PROMPT = "\x1b[?2004h"  # the line editor asks for bracketed paste whenever it is ready for a line

    def __init__(self) -> None:
        environment = os.environ | {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "LC_ALL": "C.UTF-8"}
        self.screen = ""
        self.master, slave = pty.openpty()
        command = [sys.executable, "-c", CONTROLLING_TERMINAL + SLOW_PARROT]
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def wait_for(self, text: str) -> None:
        """Read the screen until `text` has appeared since the last wait."""
        deadline = time.monotonic() + 60
        while text not in self.screen:
            assert time.monotonic() < deadline, f"{text!r} did not appear in {self.screen!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                self.screen += os.read(self.master, 65536).decode("utf-8", "replace")
        self.screen = self.screen.partition(text)[2]


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.process.kill()
    terminal.process.wait()
    os.close(terminal.master)


@pytest.mark.slow
def test_in_a_terminal_ctrl_c_stops_the_answer_and_ctrl_d_leaves(terminal: Terminal) -> None:
    terminal.wait_for(Terminal.PROMPT)
    terminal.type("한글 입력ㅋ\x7f\r")  # with a slip, and the backspace that mends it
    terminal.wait_for("들어보자")
    terminal.wait_for("들었어요:한글 입력 0")
    terminal.type("\x03")
    terminal.wait_for(Terminal.PROMPT)
    terminal.type("/undo\r")
    terminal.wait_for("지웠습니다: 한글 입력)")
    terminal.type("/set temperature=뜨겁게\r")
    terminal.wait_for("error: ")
    terminal.wait_for(Terminal.PROMPT)
    terminal.type("반쯤 쓴 말\x03")
    terminal.wait_for(Terminal.PROMPT)
    terminal.type("\x04")
    assert terminal.process.wait(30) == 0


@pytest.mark.slow
def test_outside_a_terminal_ctrl_c_ends_the_program_with_130() -> None:
    command = [sys.executable, "-c", SLOW_PARROT]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("안녕\n".encode())
        process.stdin.close()
        process.stdout.read(20)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
