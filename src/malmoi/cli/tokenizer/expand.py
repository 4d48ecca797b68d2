"""`malmoi tokenizer expand`: more Korean in a vocabulary that a model was trained with.

Read next: `malmoi.text.vocabulary.expand`, what it calls; `malmoi resize`, the model's side.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from malmoi.cli.several import SeveralValues
from malmoi.cli.tokenizer.corpus import (
    BASE,
    CORPUS,
    ERRORS,
    HELD_OUT,
    OUT,
    held_out_texts,
    reading,
    report,
    require_another,
)
from malmoi.cli.tokenizer.shown import load

if TYPE_CHECKING:
    from malmoi.data.files import OnBadBytes


@click.command(cls=SeveralValues, short_help="Add Korean to a model's vocabulary. 어휘에 한국어를 더합니다.")
@BASE
@CORPUS
@click.option(
    "--add", "num_added", type=click.IntRange(min=1), metavar="N", help="How many tokens. 더할 토큰 수."
)
@click.option("--until", metavar="1.25x", help="As many as make so much more Korean fit. 목표 배수.")
@HELD_OUT
@ERRORS
@OUT
def expand(
    base: str,
    files: tuple[str, ...],
    num_added: int | None,
    until: str | None,
    held_out_files: tuple[str, ...],
    errors: "OnBadBytes",
    out: Path,
) -> None:
    """Add Korean to the vocabulary of BASE, whose ids stay. 어휘에 한국어를 더합니다.

    BASE is a checkpoint directory or a tokenizer file. Its merges are continued on the corpus, inside Hangul only, so
    text without Hangul keeps exactly the same ids, and special tokens too. Next: `malmoi resize MODEL --tokenizer DIR`.
    """
    from malmoi.text.vocabulary.expand import expand as continue_merges
    from malmoi.text.vocabulary.expand import expand_until

    if (num_added is None) == (until is None):
        raise click.UsageError("say how many tokens to add: either --add N or --until 1.25x.")
    require_another(out, base)
    old = load(base)
    held_out = held_out_texts(files, held_out_files, errors)
    is_shown = sys.stderr.isatty()
    with reading(files, errors) as texts:
        if num_added is not None:
            grown = continue_merges(old, texts, num_added=num_added, show_progress=is_shown)
        else:
            grown = expand_until(
                old, texts, factor=_factor(str(until)), held_out=held_out, show_progress=is_shown
            )
    grown.save(out)
    report(old, grown, held_out, out)


def _factor(written: str) -> float:
    try:
        return float(written.removesuffix("x"))
    except ValueError:
        raise click.BadParameter(f"{written!r} is not a factor. Write 1.25x.", param_hint="--until") from None
