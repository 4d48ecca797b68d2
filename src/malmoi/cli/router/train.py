"""`malmoi router train`: learn from judged answers which questions a weak model is good enough for.

Read next: `malmoi/router/training.py`, what it calls; `report.py`, which measures the result on other rows.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from malmoi.cli.router.judged import FILES, read

if TYPE_CHECKING:
    from malmoi.router.router import Router

_SHARE = click.FloatRange(0, 1)


@click.command(short_help="Train a router from judged answers. 채점한 답으로 라우터를 학습합니다.")
@FILES
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False, writable=True),
    required=True,
    metavar="DIR",
    help="Where to write. 저장할 폴더.",
)
@click.option(
    "--quality",
    type=_SHARE,
    metavar="SHARE",
    help="As few strong calls as keep so much of the strong score. 지킬 점수 비율. [default: 0.95]",
)
@click.option(
    "--strong-share",
    type=_SHARE,
    metavar="SHARE",
    help="So many strong calls instead. 강한 모델에 보낼 비율.",
)
@click.option(
    "--prices",
    type=(float, float),
    default=(0.0, 1.0),
    show_default=True,
    metavar="WEAK STRONG",
    help="What both cost, in any unit; parameters will do. 두 모델의 값.",
)
@click.option(
    "--per",
    type=click.Choice(["call", "token"]),
    default="call",
    show_default=True,
    help="Of what that is the price. 값의 단위.",
)
@click.option(
    "--answer-tokens",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="How long an answer is, for prices per token. 답의 길이.",
)
def train(
    files: tuple[str, ...],
    out: Path,
    quality: float | None,
    strong_share: float | None,
    prices: tuple[float, float],
    per: Literal["call", "token"],
    answer_tokens: int,
) -> None:
    """Train a router from judged answers. 채점한 답으로 라우터를 학습합니다.

    JUDGED has a row for each question: {"prompt": ..., "weak": SCORE, "strong": SCORE}, scores from 0 to 1, or
    {"prompt": ..., "preferred": "weak"}, or "strong", or "tie". A prompt is a text or a list of messages. A fifth of
    the rows, by a hash of the question, is held out to choose the threshold.
    """
    from rich.console import Console

    from malmoi.router.cost import Cost
    from malmoi.router.training import Dial, train_router

    if quality is not None and strong_share is not None:
        raise click.UsageError("--quality and --strong-share are two ways to say one thing. Give one.")
    if answer_tokens and per == "call":
        raise click.UsageError("--answer-tokens goes with --per token. Leave it out, or say so.")
    dial = (
        Dial(kind="quality", value=0.95 if quality is None else quality)
        if strong_share is None
        else Dial(kind="strong-share", value=strong_share)
    )
    cost = Cost(weak=prices[0], strong=prices[1], unit=per, answer_tokens=answer_tokens)
    judged = read(files)
    console = Console(stderr=True)
    with console.status("training") as status:
        router = train_router(judged, dial=dial, cost=cost, data=files, on_step=status.update)
    router.save(out)
    _say(router, out)


def _say(router: "Router", out: Path) -> None:
    manifest = router.manifest
    curve = ", ".join(f"{float(share):.0%} {score:.4f}" for share, score in manifest.curve.items())
    click.echo(
        f"{out}: learned from {manifest.num_learned:,} rows, {manifest.num_held_out:,} held out.\n"
        f"held out: log loss {manifest.log_loss:.4f}, of the mean alone {manifest.log_loss_of_constant:.4f}; score by "
        f"strong calls: {curve}\n"
        f"{manifest.dial}: threshold {manifest.threshold:.6g}. Measure it on other rows: malmoi router report {out} "
        "JUDGED"
    )
