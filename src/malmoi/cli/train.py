"""`malmoi train RECIPE`: the plan, a progress bar, and where to find the result.

Place in the flow: a recipe -> `--set` -> `train.loop.train`, which this file watches and draws.
"""

from pathlib import Path

import click


@click.command()
@click.argument("recipe")
@click.option("--data", default="sample", show_default=True, help="Directory of the recipe's data. 데이터 폴더.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Change a setting, e.g. optim.lr=1e-3. 설정 변경."
)
@click.option("--depth", type=int, help="The one dial of size: layers of a new model. 새 모델의 층 수.")
def train(recipe: str, data: str, assignments: tuple[str, ...], depth: int | None) -> None:
    """Train a model by RECIPE: pretrain, sft, default-pretrain, default-sft.

    Stopped with Ctrl-C or killed, the same command goes on where it was.
    """
    from malmoi.cli.watch import TerminalObserver
    from malmoi.core.config import override
    from malmoi.recipes import find_recipe
    from malmoi.train.loop import train as run

    settings = [*assignments] if depth is None else [f"start.depth={depth}", *assignments]
    config = override(find_recipe(recipe)(data), settings)
    with TerminalObserver() as observer:
        model: Path = run(config, observer)
    click.echo(f"model: {model}\nreport: {model.parent / 'report.html'}")


