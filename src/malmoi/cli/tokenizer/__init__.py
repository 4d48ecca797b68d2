"""`malmoi tokenizer`: the commands about tokenizers, one file each. Read next: `train.py`, `encode.py`."""

import click

from malmoi.cli.lazy import LazyGroup

COMMANDS = {
    "train": "Learn a vocabulary from text files. 글에서 어휘를 배웁니다.",
    "encode": "Show the tokens of a text. 글의 토큰을 보여 줍니다.",
    "decode": "Turn ids into text. 토큰 번호를 글로 바꿉니다.",
}


@click.command(cls=LazyGroup, package="malmoi.cli.tokenizer", lines=COMMANDS, noun="command")
def tokenizer() -> None:
    """Make, compare and use tokenizers. 토크나이저를 만들고, 견주고, 씁니다."""
