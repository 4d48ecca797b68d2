"""`malmoi tokenizer train|encode|decode`: make a tokenizer, and see what one does with a text.

Read next: `malmoi.text.training` (what train calls), `malmoi.text.tokenizer`.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from malmoi.cli.stdin import read_argument_or_stdin

if TYPE_CHECKING:
    from malmoi.text.tokenizer import Tokenizer

_TOKENIZER = click.option(
    "--tokenizer",
    "path",
    metavar="DIR",
    help="A checkpoint directory or a tokenizer.json; the shipped model's if not given.",
)

# Checked before the minutes of training, not after.
_DIRECTORY = click.Path(path_type=Path, file_okay=False, writable=True)


@click.group(short_help="Train a tokenizer, encode and decode text. 토크나이저를 만들고 씁니다.")
def tokenizer() -> None:
    """Train a tokenizer, encode and decode text. 토크나이저를 만들고 씁니다."""


@tokenizer.command(short_help="Learn a vocabulary from text files. 글에서 어휘를 배웁니다.")
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
    click.echo(f"held-out text: {_measure(trained, list(iterate_texts(sources, split='held-out')))}")


@tokenizer.command(short_help="Show the tokens of a text. 글의 토큰을 보여 줍니다.")
@click.argument("text")
@_TOKENIZER
@click.option("--ids", "ids_only", is_flag=True, help="Print the ids only, on one line.")
@click.option("--special", is_flag=True, help="Read the strings of special tokens as special tokens.")
def encode(text: str, path: str | None, ids_only: bool, special: bool) -> None:
    """Show the tokens of TEXT (`-`: of standard input). 글의 토큰을 보여 줍니다.

    One token a line: its id, and what it adds to the text. Bytes that are only a part of a character
    are shown as numbers.
    """
    text = read_argument_or_stdin(text)
    loaded = _load(path)
    ids = loaded.encode_special(text) if special else loaded.encode(text)
    if ids_only:
        click.echo(" ".join(map(str, ids)))
        return
    for index, token_id in enumerate(ids):
        piece = click.style(_shown(loaded.token_bytes(token_id)), reverse=index % 2 == 0)
        click.echo(f"{token_id:>8}  {piece}")
    click.echo(_measure(loaded, [text]))


@tokenizer.command(short_help="Turn ids into text. 토큰 번호를 글로 바꿉니다.")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@_TOKENIZER
@click.option("--skip-special", is_flag=True, help="Leave special tokens out.")
def decode(ids: tuple[str, ...], path: str | None, skip_special: bool) -> None:
    """Turn ids into text (`-`: ids from standard input). 토큰 번호를 글로 바꿉니다."""
    words = read_argument_or_stdin(ids[0]).split() if ids == ("-",) else ids
    try:
        numbers = [int(word) for word in words]
    except ValueError as error:
        raise click.BadParameter(f"{error}. Give ids as whole numbers with spaces between.") from None
    click.echo(_load(path).decode(numbers, skip_special=skip_special))


def _load(path: str | None) -> "Tokenizer":
    from malmoi.text.tokenizer import Tokenizer
    from malmoi.weights.default import default_model

    return Tokenizer.load(path if path is not None else default_model())


def _shown(piece: bytes) -> str:
    """The piece as text, spaces and line ends visible; part of a character as hexadecimal numbers."""
    try:
        return piece.decode("utf-8").replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")
    except UnicodeDecodeError:
        return f"<{piece.hex(' ')}>"


def _measure(tokenizer: "Tokenizer", texts: list[str]) -> str:
    """What `texts` cost: the sums, and the two ratios by which tokenizers are compared."""
    from malmoi.text.hangul import num_syllables

    num_tokens = sum(map(len, tokenizer.encode_batch(texts)))
    num_bytes = sum(len(text.encode()) for text in texts)
    syllables = sum(map(num_syllables, texts))
    parts = [f"{num_tokens} tokens, {num_bytes} bytes, {syllables} syllables"]
    if num_tokens:
        parts.append(f"{num_bytes / num_tokens:.2f} bytes a token")
    if syllables:
        parts.append(f"{num_tokens / syllables:.2f} tokens a syllable")
    return "; ".join(parts)
