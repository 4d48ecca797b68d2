"""`malmoi tokenizer`: the commands about tokenizers, one file each. Read next: `train.py`, `encode.py`."""

import click

from malmoi.cli.lazy import LazyGroup

COMMANDS = {
    "train": "Learn a vocabulary from text files. 글에서 어휘를 배웁니다.",
    "import": "Turn other formats into a tokenizer.json. 다른 형식을 바꿉니다.",
    "encode": "Show the tokens of a text. 글의 토큰을 보여 줍니다.",
    "decode": "Turn ids into text. 토큰 번호를 글로 바꿉니다.",
    "explain": "Show each merge as it happens. 토큰이 되는 과정을 보여 줍니다.",
    "encode-files": "Encode files once, to train from. 학습용 토큰 파일을 만듭니다.",
    "compare": "Measure tokenizers on Korean, and their bill. 토크나이저를 견줍니다.",
    "expand": "Add Korean to a model's vocabulary. 어휘에 한국어를 더합니다.",
    "superwords": "Add tokens across spaces. 띄어쓰기를 넘는 토큰을 더합니다.",
    "shrink": "Drop the tokens that a text never uses. 안 쓰는 토큰을 뺍니다.",
}


@click.command(cls=LazyGroup, package="malmoi.cli.tokenizer", lines=COMMANDS, noun="command")
def tokenizer() -> None:
    """Make, compare and use tokenizers. 토크나이저를 만들고, 견주고, 씁니다."""
