"""`malmoi tokenizer shrink`: drop the tokens that a corpus never uses, of a model too.

Read next: `malmoi.text.vocabulary.shrink` and `malmoi.adapt.shrink`, what it calls.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from malmoi.cli.several import SeveralValues
from malmoi.cli.tokenizer.corpus import BASE, CORPUS, ERRORS, OUT, reading, require_another
from malmoi.cli.tokenizer.shown import load

if TYPE_CHECKING:
    from malmoi.data.files import OnBadBytes
    from malmoi.text.tokenizer import Tokenizer


@click.command(cls=SeveralValues, short_help="Drop the tokens that a text never uses. 안 쓰는 토큰을 뺍니다.")
@BASE
@CORPUS
@click.option(
    "--keep-ascii", is_flag=True, help="Keep every token of ASCII: English and code. 영어와 코드는 둡니다."
)
@ERRORS
@OUT
def shrink(base: str, files: tuple[str, ...], keep_ascii: bool, errors: "OnBadBytes", out: Path) -> None:
    """Drop the tokens of BASE that the corpus never uses. 안 쓰는 토큰을 뺍니다.

    The corpus is cut as before, by new ids; any other text has a spelling still, where BASE has bytes. If BASE is a
    model directory, the model's rows go with the tokens, and DIR is a model that says the same.
    """
    from malmoi.text.vocabulary.shrink import shrink as shrink_tokenizer

    require_another(out, base)
    old = load(base)
    directory = Path(base) if (Path(base) / "config.json").is_file() else None
    keep: set[int] = set()
    if directory is not None:
        from malmoi.adapt.directory import NamedIds, require_empty

        require_empty(out)
        keep = NamedIds.read(directory).ids()
    with reading(files, errors) as texts:
        shrunk = shrink_tokenizer(old, texts, keeps_ascii=keep_ascii, keep=keep)
    if directory is None:
        shrunk.tokenizer.save(out)
    else:
        _shrink_model(directory, shrunk.kept, shrunk.tokenizer, out)
    click.echo(f"{out}: {len(shrunk.kept):,} of {old.vocab_size:,} tokens are left.")


def _shrink_model(directory: Path, kept: tuple[int, ...], tokenizer: "Tokenizer", out: Path) -> None:
    from malmoi.adapt import shrink_model
    from malmoi.adapt.directory import write_adapted
    from malmoi.models import load_model

    model = load_model(directory)
    small = shrink_model(model, kept)
    write_adapted(
        small, tokenizer, out, source=directory, new_id={old: new for new, old in enumerate(kept)}.get
    )
    before, after = (sum(p.numel() * p.itemsize for p in m.parameters()) for m in (model, small))
    click.echo(
        f"model: {before / 2**20:,.1f} -> {after / 2**20:,.1f} MiB of weights, {1 - after / before:.0%} less."
    )
