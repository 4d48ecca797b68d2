"""`malmoi tokenizer train`: learn a vocabulary from files.

Read next: `malmoi.text.training`, what it calls.
"""

import sys
from pathlib import Path

import click

from malmoi.cli.tokenizer.shown import measure

# Checked before the minutes of training, not after.
_DIRECTORY = click.Path(path_type=Path, file_okay=False, writable=True)


@click.command(short_help="Learn a vocabulary from text files. 글에서 어휘를 배웁니다.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--vocab-size", type=int, required=True, metavar="N", help="Tokens, special ones included.")
@click.option("--out", type=_DIRECTORY, required=True, metavar="DIR", help="Where to write.")
@click.option("--text-field", default="text", metavar="NAME", help="The field of a row that holds the text.")
@click.option("--messages-field", metavar="NAME", help="The field that holds chat messages, instead.")
@click.option(
    "--encoder",
    "kind",
    flag_value="encoder",
    help="With the special tokens of an encoder: [CLS], [SEP], [MASK].",
)
@click.option(
    "--text-to-text",
    "kind",
    flag_value="text-to-text",
    help="With those of a T5 or BART: </s>, <mask>, <extra_id_0> to <extra_id_99>.",
)
def train(
    files: tuple[str, ...],
    vocab_size: int,
    out: Path,
    text_field: str,
    messages_field: str | None,
    kind: str | None,
) -> None:
    """Learn a byte-level BPE vocabulary from text files. 글에서 어휘를 배웁니다.

    FILE is a .txt, .jsonl (.zst, .gz) or .parquet file, a directory or a glob. What pretraining holds out
    is held out here too, and measured at the end.
    """
    from malmoi.data.sources import SourceConfig, iterate_texts
    from malmoi.text.training import train_bpe, train_bpe_for_encoders, train_bpe_for_text_to_text

    sources = [
        SourceConfig(path=file, text_field=text_field, messages_field=messages_field) for file in files
    ]
    kinds = {None: train_bpe, "encoder": train_bpe_for_encoders, "text-to-text": train_bpe_for_text_to_text}
    trained = kinds[kind](iterate_texts(sources), vocab_size=vocab_size, show_progress=sys.stderr.isatty())
    trained.save(out)
    click.echo(f"{out}: {trained.vocab_size} tokens, {len(trained.special_tokens)} of them special.")
    click.echo(f"held-out text: {measure(trained, list(iterate_texts(sources, split='held-out')))}")
