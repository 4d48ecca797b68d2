"""`malmoi tokenizer decode`: the text of ids. Read next: `malmoi.text.tokenizer`."""

import click

from malmoi.cli.stdin import read_argument_or_stdin
from malmoi.cli.tokenizer.shown import TOKENIZER, load


@click.command(short_help="Turn ids into text. 토큰 번호를 글로 바꿉니다.")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@TOKENIZER
@click.option("--skip-special", is_flag=True, help="Leave special tokens out.")
def decode(ids: tuple[str, ...], path: str | None, skip_special: bool) -> None:
    """Turn ids into text (`-`: ids from standard input). 토큰 번호를 글로 바꿉니다."""
    words = read_argument_or_stdin(ids[0]).split() if ids == ("-",) else ids
    try:
        numbers = [int(word) for word in words]
    except ValueError as error:
        raise click.BadParameter(f"{error}. Give ids as whole numbers with spaces between.") from None
    click.echo(load(path).decode(numbers, skip_special=skip_special))
