"""`malmoi`: finds the verb, runs it, and turns what went wrong into one line and an exit code.

First stop of everything typed in a shell. A verb's module is imported only when that verb is used, so
`malmoi --help` needs neither torch nor rich. Exit codes: 0 done, 2 the input is wrong (`MalmoiError`,
a wrong option, a file that cannot be read or written), 130 stopped by Ctrl-C, 1 the reader of our output
has gone; 1 with a traceback is a bug. Read next: `cli/generate.py`, the simplest verb.
"""

import errno
import io
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from malmoi import __version__
from malmoi.cli.lazy import LazyGroup
from malmoi.core.errors import MalmoiError

VERBS = {
    "bench": "Measure speed, and what the machine allows. 속도를 재고 한계와 견줍니다.",
    "chat": "Talk with a model. 모델과 이야기합니다.",
    "classify": "Label texts. 글을 분류합니다.",
    "embed": "Turn texts into vectors. 글을 벡터로 바꿉니다.",
    "inspect": "Draw a model, and count what it costs. 모델 구조를 그리고 비용을 계산합니다.",
    "generate": "Continue a text. 글을 이어 씁니다.",
    "resize": "Fit a model to another tokenizer. 모델을 새 토크나이저에 맞춥니다.",
    "router": "Choose between a weak and a strong model. 두 모델 중에서 고릅니다.",
    "serve": "Serve models: a chat page and an API. 대화 페이지와 API를 엽니다.",
    "tokenizer": "Make, compare and use tokenizers. 토크나이저를 만들고, 견주고, 씁니다.",
    "train": "Train a model by a recipe. 모델을 학습합니다.",
    "transcribe": "Write down what is said. 소리를 듣고 받아씁니다.",
}
"""Every verb and its line in `malmoi --help`; the command itself is `malmoi.cli.<verb>.<verb>`."""


@click.command(
    cls=LazyGroup,
    package="malmoi.cli",
    lines=VERBS,
    noun="verb",
    subcommand_metavar="VERB ...",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="malmoi %(version)s")
def malmoi() -> None:
    """Malmoi (말모이): from raw Korean text to a chatting model."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave the process with its exit code.

    Example: `main(["--version"])` prints `malmoi 0.1.0` and exits with 0.
    """
    _write_utf8()
    sys.exit(_run(args))


def _run(args: Sequence[str] | None) -> int:
    """Run one verb; return the exit code that the module's docstring promises."""
    try:
        code = malmoi.main(args, prog_name="malmoi", standalone_mode=False)
        return code or 0  # click hands over the code of `ctx.exit(code)`; verbs themselves return None
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except MalmoiError as error:
        show_error(error)
        return 2
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        show_error(f"{what}. Check the path, the permissions and the space on the disk.")
        return 2


def show_error(error: MalmoiError | str) -> None:
    """Tell the user on standard error what was wrong, in red where that is a terminal."""
    click.echo(click.style("error: ", fg="red", bold=True) + str(error), err=True)


def _write_utf8() -> None:
    """Make Korean printable whatever the locale: under an ASCII or EUC-KR one, `print` would raise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
