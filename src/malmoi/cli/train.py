"""`malmoi train RECIPE`: the plan, a progress bar, and where to find the result.

Place in the flow: a recipe -> `--set` -> `train.loop.train`, which `watch.py` draws. Read next: `recipes/story.py`.
"""

import click


@click.command(short_help="Train a model by a recipe. 모델을 학습합니다.")
@click.argument("recipe")
@click.option(
    "--data",
    default="sample",
    show_default=True,
    metavar="DIR",
    help="Where the recipe's data is. 데이터 폴더.",
)
@click.option("--depth", type=int, metavar="N", help="The one dial of size: the model's layers. 층 수.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting, e.g. optim.lr=1e-3. May be repeated. 설정 변경.",
)
@click.pass_context
def train(
    ctx: click.Context, recipe: str, data: str, assignments: tuple[str, ...], depth: int | None
) -> None:
    """Train a model. 모델을 학습합니다.

    RECIPE: pretrain, sft, mlm, classify, similarity, denoise, default-pretrain, default-sft.

    Stopped with Ctrl-C or killed, the same command goes on where it was. The result, an ordinary model
    directory, and the report of the run lie in the directory that the setting `out` names.
    """
    from malmoi.cli.watch import TerminalObserver
    from malmoi.core.config import override
    from malmoi.recipes import make_run
    from malmoi.train.loop import train as run
    from malmoi.train.stop import Interrupted

    config = override(make_run(recipe, data, depth=depth), assignments)
    try:
        with TerminalObserver() as observer:
            model = run(config, observer)
    except Interrupted as interrupted:
        click.echo(str(interrupted), err=True)
        ctx.exit(130)
    click.echo(f"model: {model}\nreport: {model.parent / 'report.html'}")
