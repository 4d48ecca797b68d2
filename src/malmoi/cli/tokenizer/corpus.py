"""What the commands that change a vocabulary share: the corpus that they learn from, and what they say at the end.

Place in the flow: `expand.py`, `superwords.py` and `shrink.py` use it. Read next: `expand.py`.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from malmoi.cli.tokenizer.shown import shown

if TYPE_CHECKING:
    from malmoi.data.sources import SourceConfig, Split
    from malmoi.text.tokenizer import Tokenizer

BASE = click.argument("base", metavar="BASE")
CORPUS = click.option(
    "--corpus",
    "files",
    multiple=True,
    required=True,
    metavar="FILE...",
    help="Text to learn from; FILE#NAME: the field NAME. 배울 글.",
)
HELD_OUT = click.option(
    "--held-out",
    "held_out_files",
    multiple=True,
    metavar="FILE...",
    help="Text to measure on. 잴 글. [default: what is held out of the corpus]",
)
OUT = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False, writable=True),
    required=True,
    metavar="DIR",
    help="Where to write. 저장할 폴더.",
)


@contextmanager
def reading(files: Sequence[str]) -> Iterator[Iterable[str]]:
    """Lend the texts of `files` that are not held out; how much was read shows on a terminal."""
    from rich.console import Console
    from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from malmoi.data.sources import iterate_texts

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("reading"), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def texts() -> Iterator[str]:
            for text in iterate_texts(sources(files)):
                yield text
                bar.advance(task, len(text.encode()))
            bar.stop()

        yield texts()


def held_out_texts(files: Sequence[str], held_out_files: Sequence[str]) -> list[str]:
    """The text to measure on. Raises a usage error if there is no Hangul in it, before the minutes of learning."""
    from malmoi.data.sources import iterate_texts
    from malmoi.text.hangul import num_syllables

    split: Split = "train" if held_out_files else "held-out"
    chosen = sources(held_out_files, holdout_permille=0) if held_out_files else sources(files)
    texts = list(iterate_texts(chosen, split=split))
    if not any(map(num_syllables, texts)):
        raise click.UsageError(
            "there is no Korean to measure on: nothing of so small a corpus is held out, or nothing Korean. Name a "
            "file of Korean text with --held-out."
        )
    return texts


def sources(files: Iterable[str], **settings: Any) -> "list[SourceConfig]":
    """`FILE`, whose text is in the field `text`, or `FILE#NAME`."""
    from malmoi.data.sources import SourceConfig

    named = (
        (file, "text") if Path(file).exists() or "#" not in file else file.rsplit("#", 1) for file in files
    )
    return [SourceConfig(path=path, text_field=field, **settings) for path, field in named]


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
    click.echo(f"new: {', '.join(pieces[:8])}{' ... ' * (len(new) > 16)}{', '.join(pieces[8:])}")
