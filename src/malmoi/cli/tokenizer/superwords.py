"""`malmoi tokenizer superwords`: tokens that go across spaces, the second stage of a training.

Read next: `malmoi.text.vocabulary.superwords`, what it calls.
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


@click.command(cls=SeveralValues, short_help="Add tokens across spaces. 띄어쓰기를 넘는 토큰을 더합니다.")
@BASE
@CORPUS
@click.option(
    "--add", "num_added", type=click.IntRange(min=1), required=True, metavar="N", help="How many. 토큰 수."
)
@HELD_OUT
@ERRORS
@OUT
def superwords(
    base: str,
    files: tuple[str, ...],
    num_added: int,
    held_out_files: tuple[str, ...],
    errors: "OnBadBytes",
    out: Path,
) -> None:
    """Add tokens of several Korean words to BASE, which `train` made. 띄어쓰기를 넘는 토큰을 더합니다.

    For a vocabulary of 32,000, train one of 30,000 and add 2,000. Its words stay; their ids too.
    """
    from malmoi.text.vocabulary.superwords import add_superwords

    require_another(out, base)
    old = load(base)
    held_out = held_out_texts(files, held_out_files, errors)
    with reading(files, errors) as texts:
        grown = add_superwords(old, texts, num_added=num_added, show_progress=sys.stderr.isatty())
    grown.save(out)
    report(old, grown, held_out, out)
