"""`malmoi tokenizer encode-files`: files of prose as a token file, to be encoded once and trained from often.

Read next: `malmoi.data.encode_files`, what it calls.
"""

from pathlib import Path
from typing import Any

import click

from malmoi.cli.tokenizer.shown import TOKENIZER, load


@click.command(short_help="Encode files once, to train from. 학습용 토큰 파일을 만듭니다.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Where to write.")
@TOKENIZER
@click.option("--text-field", default="text", metavar="NAME", help="The field of a row that holds the text.")
@click.option("--format", metavar="TEXT", help='A text of several fields, as "{ko} {en}".')
@click.option("--include", multiple=True, metavar="PREFIX", help="Only rows of which a source begins so.")
@click.option("--exclude", multiple=True, metavar="PREFIX", help="No row of which a source begins so.")
@click.option("--holdout-permille", type=int, default=5, metavar="N", help="Documents held out of 1000; 5.")
@click.option(
    "--holdout-by",
    type=click.Choice(["source", "text"]),
    default="source",
    help="What decides which: the field source, where there is one, or always the text.",
)
@click.option(
    "--max-characters", type=int, default=10_000, metavar="N", help="Longer texts are cut up; 10,000."
)
@click.option(
    "--errors",
    type=click.Choice(["strict", "replace"]),
    default="strict",
    help="Bytes that are not UTF-8: stop, or read them as U+FFFD.",
)
@click.option("--separator", default="<|endoftext|>", metavar="TOKEN", help="Between documents.")
@click.option("--tokens-per-shard", type=int, default=2**26, metavar="N", help="Of one file; 67,108,864.")
def encode_files(
    files: tuple[str, ...], out: Path, path: str | None, separator: str, tokens_per_shard: int, **reading: Any
) -> None:
    """Encode files of prose into DIR, from which training reads. 글을 미리 토큰으로 바꿔 둡니다.

    FILE is a .txt, .jsonl (.zst, .gz) or .parquet file, a directory or a glob. A source of a training run may name DIR
    instead, with the same settings: its batches are the same. Documents that are held out of training are in it too,
    and marked. Stopped with Ctrl-C or killed, the same command goes on behind the last whole shard.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from malmoi.data import encode_files as data
    from malmoi.data.prose import ProseEncoder
    from malmoi.data.sources import SourceConfig
    from malmoi.data.token_manifest import UNFINISHED

    sources = [SourceConfig(path=file, **reading) for file in files]
    prose = ProseEncoder(tokenizer=load(path), separator=separator)
    console = Console(stderr=True)
    counted = TextColumn("{task.fields[documents]:,} documents, {task.completed:,.0f} tokens")
    columns = (SpinnerColumn(), counted, TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, documents=0)
        try:
            manifest = data.encode_files(
                sources,
                out,
                prose,
                tokens_per_shard=tokens_per_shard,
                on_progress=lambda documents, tokens: bar.update(task, documents=documents, completed=tokens),
            )
        except KeyboardInterrupt:
            if (out / UNFINISHED).is_file():
                click.echo(f"stopped. The same command goes on behind the whole shards in {out}.", err=True)
            raise
    click.echo(
        f"{out}: {manifest.num_documents:,} documents, {manifest.num_tokens:,} tokens of type {manifest.dtype}, "
        f"shards: {len(manifest.shards)}."
    )
