"""`malmoi tokenizer encode`: the tokens of a text. Read next: `malmoi.text.tokenizer`."""

import click

from malmoi.cli.stdin import read_argument_or_stdin
from malmoi.cli.tokenizer.shown import TOKENIZER, load, measure, shown


@click.command(short_help="Show the tokens of a text. 글의 토큰을 보여 줍니다.")
@click.argument("text")
@TOKENIZER
@click.option("--ids", "ids_only", is_flag=True, help="Print the ids only, on one line.")
@click.option("--special", is_flag=True, help="Read the strings of special tokens as special tokens.")
def encode(text: str, path: str | None, ids_only: bool, special: bool) -> None:
    """Show the tokens of TEXT (`-`: of standard input). 글의 토큰을 보여 줍니다.

    One token a line: its id, and what it adds to the text. Bytes that are only a part of a character
    are shown as numbers.
    """
    text = read_argument_or_stdin(text)
    loaded = load(path)
    ids = loaded.encode_special(text) if special else loaded.encode(text)
    if ids_only:
        click.echo(" ".join(map(str, ids)))
        return
    for index, token_id in enumerate(ids):
        piece = click.style(shown(loaded.token_bytes(token_id)), reverse=index % 2 == 0)
        click.echo(f"{token_id:>8}  {piece}")
    click.echo(measure(loaded, [text]))
