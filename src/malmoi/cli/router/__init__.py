"""`malmoi router`: the commands about routers, one file each. Read next: `train.py`."""

import click

from malmoi.cli.lazy import LazyGroup

COMMANDS = {
    "train": "Train a router from judged answers. 채점한 답으로 라우터를 학습합니다.",
    "report": "Draw what a router is worth. 라우터의 값어치를 잽니다.",
}


@click.command(cls=LazyGroup, package="malmoi.cli.router", lines=COMMANDS, noun="command")
def router() -> None:
    """Choose between a weak and a strong model. 약한 모델과 강한 모델 중에서 고릅니다."""
