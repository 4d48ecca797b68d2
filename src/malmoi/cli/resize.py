"""`malmoi resize`: a model for another tokenizer. Read next: `malmoi.adapt.resize`, what it calls."""

from pathlib import Path

import click

# The names that `adapt.INITS` has, which is not imported here because that takes torch.
_INITS = ("subword-mean", "mean", "noise", "align")


@click.command(short_help="Fit a model to another tokenizer. 모델을 새 토크나이저에 맞춥니다.")
@click.argument("model", metavar="MODEL")
@click.option("--tokenizer", "path", required=True, metavar="NEW", help="The new tokenizer. 새 토크나이저.")
@click.option(
    "--init",
    type=click.Choice(_INITS),
    default=_INITS[0],
    show_default=True,
    help="How the row of a new token begins. 새 토큰의 초깃값.",
)
@click.option("--seed", default=0, show_default=True, metavar="N", help="Of the noise. 난수 씨앗.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False, writable=True),
    required=True,
    metavar="DIR",
    help="Where to write. 저장할 폴더.",
)
def resize(model: str, path: str, init: str, seed: int, out: Path) -> None:
    """Give MODEL a row for each token of NEW. 모델을 새 토크나이저에 맞춥니다.

    MODEL is a directory or a hub id. Old tokens keep their rows, so the model says the same about texts of them. New
    ones begin as the mean of the old tokens that spell them (subword-mean), as that of all (mean), or around it
    (noise). If NEW is no expansion of MODEL's tokenizer, `align` finds the tokens that both have.
    """
    from malmoi.adapt import resize as resize_model
    from malmoi.adapt.directory import require_empty, write_adapted
    from malmoi.adapt.rows import vocabulary_of
    from malmoi.models import count_parameters, load_model
    from malmoi.text.tokenizer import Tokenizer
    from malmoi.weights.hub import resolve

    require_empty(out)
    source = resolve(model)
    new = Tokenizer.load(path)
    old_model = load_model(source)
    resized = resize_model(old_model, Tokenizer.load(source), new, init=init, seed=seed)
    gone = write_adapted(resized.model, new, out, source=source, new_id=resized.new_ids.get)
    rows = [vocabulary_of(each.config) for each in (old_model, resized.model)]
    parameters = [count_parameters(each) for each in (old_model, resized.model)]
    click.echo(f"{out}: {rows[0]:,} -> {rows[1]:,} rows, {parameters[0]:,} -> {parameters[1]:,} parameters.")
    click.echo(
        f"tokens: {resized.num_kept:,} keep their row, {resized.num_from_pieces:,} begin as the mean of their pieces, "
        f"{resized.num_from_all:,} {'are drawn around' if init == 'noise' else 'begin as'} the mean of all. "
        f"{resized.num_spare:,} rows were padding before."
    )
    if gone:
        click.echo(f"generation_config.json lost {', '.join(gone)}: NEW has no such token. Add its own.")
