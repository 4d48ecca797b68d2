"""`malmoi tokenizer compare`: what tokenizers make of the same text, and what it costs.

    files -> material.py -> malmoi.text.microscope -> comparison_text.py, HTML, CSV and JSON files

Read next: `malmoi.text.microscope.comparison`.
"""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import click

from malmoi.cli.several import SeveralValues
from malmoi.cli.tokenizer.corpus import ERRORS

if TYPE_CHECKING:
    from malmoi.data.files import OnBadBytes
    from malmoi.text.microscope.analysed import Analysed
    from malmoi.text.microscope.genre import Genre

MORPHEME_BYTES = 50_000
"""Of each Korean genre, so much is analysed by Kiwi, which takes about 6 s a megabyte."""
_FILE = click.Path(path_type=Path, dir_okay=False, writable=True)


@click.command(
    cls=SeveralValues, short_help="Measure tokenizers on Korean, and their bill. 토크나이저를 견줍니다."
)
@click.argument("tokenizers", nargs=-1, required=True, metavar="TOKENIZER...")
@click.option("--text", "texts", multiple=True, metavar="FILE...", help="Text, a genre a file. 잴 글.")
@click.option(
    "--by",
    metavar="FIELD",
    help="A genre for each value of this field of the rows, such as source. 갈래 필드.",
)
@click.option(
    "--held-out", is_flag=True, help="Only the text that `train` holds out of these files. 배우지 않은 글만."
)
@click.option(
    "--field",
    default="text",
    show_default=True,
    metavar="NAME",
    help="The field of a row that holds its text or chat messages; FILE#NAME for one file. 글이 든 필드.",
)
@click.option(
    "--parallel",
    metavar="FILE",
    help="Rows with the same content as ko and en; the Korean is a genre too. 한영 병렬 글.",
)
@click.option(
    "--morphemes",
    metavar="FILE",
    help="Rows with text and tokens, as UD has them. 형태소 말뭉치. [default: analysed by kiwipiepy]",
)
@click.option("--prices", type=_FILE, metavar="FILE", help="Your table of prices (TOML). 토큰값 파일.")
@click.option(
    "--sample-bytes",
    type=click.IntRange(min=1),
    default=200_000,
    show_default=True,
    metavar="N",
    help="How much of each genre is measured. 갈래마다 잴 크기.",
)
@ERRORS
@click.option("--html", type=_FILE, metavar="FILE", help="Write a page with coloured tokens. 웹 페이지 파일.")
@click.option("--csv", type=_FILE, metavar="FILE", help="Write one figure a line. CSV 파일.")
@click.option("--json", type=_FILE, metavar="FILE", help="Write everything. JSON 파일.")
def compare(
    tokenizers: tuple[str, ...],
    texts: tuple[str, ...],
    by: str | None,
    held_out: bool,
    field: str,
    parallel: str | None,
    morphemes: str | None,
    prices: Path | None,
    sample_bytes: int,
    errors: "OnBadBytes",
    html: Path | None,
    csv: Path | None,
    json: Path | None,
) -> None:
    """Measure tokenizers on Korean, and their bill. 토크나이저를 한국어로 견주고 값을 매깁니다.

    TOKENIZER is a directory, a tokenizer.json, a .model or a Tekken file. It is called by the last part of its path,
    or as you say: NAME=PATH, for files too. Tokenizers come first, before the options.
    """
    from rich.console import Console
    from rich.progress import Progress

    from malmoi.cli.tokenizer.comparison_text import print_comparison
    from malmoi.cli.tokenizer.material import named, read_genres, read_pairs, read_treebank, with_genre
    from malmoi.core.files import require_writable, write_texts
    from malmoi.text.microscope.comparison import Comparison, Material, examine
    from malmoi.text.microscope.export import to_csv, to_json
    from malmoi.text.microscope.page import as_html
    from malmoi.text.microscope.prices import SHIPPED_PRICES, PriceTable
    from malmoi.text.tokenizer import Tokenizer

    if not texts and not parallel:
        raise click.UsageError("there is nothing to measure. Give --text FILE... or --parallel FILE.")
    writers = ((html, as_html), (csv, to_csv), (json, to_json))
    outputs = [(file, text) for file, text in writers if file is not None]
    for file, _ in outputs:
        require_writable(file)
    price_file = prices or SHIPPED_PRICES
    price_table = PriceTable.load(price_file)
    loaded = {name: Tokenizer.load(path) for name, path in named(tokenizers).items()}
    stderr = Console(stderr=True)
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task("reading", total=len(loaded) + 2)
        pairs: tuple[tuple[str, str], ...] = ()
        genres = read_genres(
            texts, by=by, is_held_out=held_out, field=field, max_bytes=sample_bytes, errors=errors
        )
        if parallel:
            korean, pairs = read_pairs(parallel, max_bytes=2 * sample_bytes)  # of two languages
            genres = with_genre(genres, korean)
        progress.update(task, advance=1, description="finding morphemes")
        analysed = read_treebank(morphemes) if morphemes else _analysed(genres)
        material = Material(
            genres=genres,
            pairs=pairs,
            analysed=analysed,
            morphemes_from=Path(morphemes).name if morphemes else "kiwipiepy",
        )
        progress.update(task, advance=1)
        examined = []
        for name, tokenizer in loaded.items():
            progress.update(task, description=name)
            examined.append(examine(name, tokenizer, material))
            progress.advance(task)
    comparison = Comparison(material=material, tokenizers=tuple(examined), prices=price_table)
    write_texts({file: text(comparison) for file, text in outputs})
    print_comparison(comparison, price_file)


def _analysed(genres: "tuple[Genre, ...]") -> "tuple[Analysed, ...]":
    """Have Kiwi find the morphemes of a part of each Korean genre, if it is installed."""
    from malmoi.text.microscope.analysed import analyse

    if importlib.util.find_spec("kiwipiepy") is None:
        return ()
    texts: list[str] = []
    for genre in genres:
        num_bytes = 0
        for text in genre.texts if genre.is_korean else ():
            if num_bytes >= MORPHEME_BYTES:
                break
            texts.append(text)
            num_bytes += len(text.encode())
    return tuple(analyse(texts))
