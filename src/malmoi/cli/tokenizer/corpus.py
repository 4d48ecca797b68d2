"""What the commands that make a tokenizer share: the corpus, where to write, and what they say at the end.

Place in the flow: `train.py`, `expand.py`, `superwords.py` and `shrink.py` use it, `import_.py` where to write, and
`material.py` the name of a field. Read next: `expand.py`.
"""

import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from malmoi.cli.tokenizer.shown import shown
from malmoi.core.errors import TokenizerError
from malmoi.core.files import require_writable

if TYPE_CHECKING:
    from malmoi.data.files import OnBadBytes
    from malmoi.data.sources import SourceConfig, Split
    from malmoi.text.tokenizer import Tokenizer

BASE = click.argument("base", metavar="BASE")
CORPUS = click.option(
    "--corpus",
    "files",
    multiple=True,
    required=True,
    metavar="FILE...",
    help="Text to learn from; FILE#NAME: the field NAME, of text or chat messages. 배울 글.",
)
ERRORS = click.option(
    "--errors",
    type=click.Choice(["strict", "replace"]),
    default="strict",
    show_default=True,
    help="Bytes that are not UTF-8: stop, or read them as U+FFFD. 깨진 글자를 만나면 멈출지, 바꾸어 읽을지.",
)
HELD_OUT = click.option(
    "--held-out",
    "held_out_files",
    multiple=True,
    metavar="FILE...",
    help="Text to measure on. 잴 글. [default: what is held out of the corpus]",
)
_OF_A_MODEL = ("config.json", "*.safetensors", "pytorch_model*.bin")


def of_a_model(out: Path) -> str | None:
    """The name of a file that says that the tokenizer.json in `out` is a model's, or None if it is nobody's."""
    if not (out / "tokenizer.json").exists():
        return None
    return next((file.name for pattern in _OF_A_MODEL for file in out.glob(pattern)), None)


def _writable(_context: click.Context, _option: click.Parameter, out: Path) -> Path:
    """Refuse, before the minutes of learning, a directory that cannot be written."""
    require_writable(out / "tokenizer.json", error=TokenizerError)
    return out


def _for_other_ids(context: click.Context, option: click.Parameter, out: Path) -> Path:
    """Refuse also a directory that has a model in it, and its tokenizer."""
    if found := of_a_model(out):
        raise click.UsageError(
            f"{out} holds a model ({found}), which would lose the tokenizer that its rows belong to. Name another "
            "directory with --out. A model for the new tokenizer is made from there: malmoi resize MODEL --tokenizer "
            "DIR."
        )
    return _writable(context, option, out)


_out = partial(
    click.option,
    "--out",
    type=click.Path(path_type=Path, file_okay=False, writable=True),
    required=True,
    metavar="DIR",
    help="Where to write. 저장할 폴더.",
)
OUT = _out(callback=_for_other_ids)
OUT_FOR_THE_SAME_IDS = _out(callback=_writable)


@contextmanager
def ctrl_c_at_once() -> Iterator[None]:
    """For the block, Ctrl-C ends the process as it stands: nothing is to be half-written, nothing to be tidied up.

    The library's trainers learn for minutes without a look at what Python does with a signal.
    """
    # Not where it is ignored, as in a script's background.
    is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if is_heard:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def reading(files: Sequence[str], errors: "OnBadBytes") -> Iterator[Iterable[str]]:
    """Lend the texts of `files` that are not held out; how much was read shows on a terminal.

    Behind the last of them Ctrl-C works at once.
    """
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from malmoi.data.sources import iterate_texts

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("reading"), DownloadColumn(), TimeElapsedColumn())
    is_hidden = not console.is_terminal
    with (
        ExitStack() as learning,
        Progress(*columns, console=console, transient=True, disable=is_hidden) as bar,
    ):
        task = bar.add_task("", total=None)

        def texts() -> Iterator[str]:
            for text in iterate_texts([source(file, errors=errors) for file in files]):
                yield text
                bar.advance(task, len(text.encode()))
            bar.stop()
            learning.enter_context(ctrl_c_at_once())

        yield texts()


def held_out_texts(files: Sequence[str], held_out_files: Sequence[str], errors: "OnBadBytes") -> list[str]:
    """The text to measure on. Raises a usage error if there is no Hangul in it, before the minutes of learning."""
    from malmoi.data.sources import iterate_texts
    from malmoi.text.hangul import num_syllables

    split: Split = "train" if held_out_files else "held-out"
    settings: dict[str, Any] = {"holdout_permille": 0} if held_out_files else {}
    chosen = [source(file, errors=errors, **settings) for file in held_out_files or files]
    texts = list(iterate_texts(chosen, split=split))
    if not any(map(num_syllables, texts)):
        raise click.UsageError(
            "there is no Korean to measure on: nothing of so small a corpus is held out, or nothing Korean. Name a "
            "file of Korean text with --held-out."
        )
    return texts


def source(
    file: str, *, field: str = "text", errors: "OnBadBytes" = "strict", **settings: Any
) -> "SourceConfig":
    """`FILE`, whose text is in `field`, or `FILE#NAME`; a field whose first row has a list has chat messages."""
    from malmoi.data.files import data_format, find_files, read_rows
    from malmoi.data.sources import SourceConfig
    from malmoi.data.token_files import TokenFile

    path, hash_, its_own = file.rpartition("#")
    if not hash_ or Path(file).exists():
        path, its_own = file, field
    is_chat = False
    if not TokenFile.is_at(path) and data_format(first_file := find_files(path)[0]) != ".txt":
        first = next(read_rows(first_file, errors), None)
        is_chat = first is not None and isinstance(first.fields.get(its_own), list)
    return SourceConfig(
        path=path,
        text_field=its_own,
        messages_field=its_own if is_chat else None,
        errors=errors,
        **settings,
    )


def require_another(out: Path, base: str) -> None:
    """Raise a usage error if `out` is where `base` lies: a model that was made with it needs the old one."""
    if out.resolve() in (Path(base).resolve(), Path(base).resolve().parent):
        raise click.UsageError(f"{out} holds BASE, which would be lost. Name another directory with --out.")


def report(base: "Tokenizer", grown: "Tokenizer", held_out: Sequence[str], out: Path) -> None:
    """Say what a larger vocabulary is worth, and show some of what is new."""
    from malmoi.text.vocabulary.expand import tokens_per_syllable

    before, after = (tokens_per_syllable(tokenizer, held_out) for tokenizer in (base, grown))
    new = range(base.vocab_size, grown.vocab_size)
    examples = [*new] if len(new) <= 16 else [*new[:8], *new[-8:]]
    pieces = [shown(grown.token_bytes(i)) for i in examples]
    click.echo(
        f"{out}: {grown.vocab_size:,} tokens, {len(new):,} of them new, ids from {base.vocab_size:,} on."
    )
    click.echo(
        f"held-out text: {before:.3f} -> {after:.3f} tokens a syllable; {before / after:.2f}x as much Korean fits."
    )
    gap = ["..."] if len(new) > 16 else []
    click.echo(f"new: {', '.join([*pieces[:8], *gap, *pieces[8:]])}")
