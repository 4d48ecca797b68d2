"""`malmoi tokenizer train`: learn a vocabulary from files.

Read next: `malmoi.text.training`, what it calls.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from malmoi.cli.tokenizer.corpus import ERRORS, OUT, ctrl_c_at_once
from malmoi.cli.tokenizer.shown import measure

if TYPE_CHECKING:
    from malmoi.text.tokenizer import Tokenizer


@click.command(short_help="Learn a vocabulary from text files. 글에서 어휘를 배웁니다.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--vocab-size", type=int, required=True, metavar="N", help="Tokens, special ones included.")
@OUT
@click.option(
    "--algorithm",
    type=click.Choice(["bpe", "unigram", "wordpiece", "word", "char", "jamo", "morpheme"]),
    default="bpe",
    show_default=True,
    help="How to cut; docs/tokenizers.md compares them. 자르는 방법.",
)
@click.option("--byte-level/--character-level", default=True, help="What bpe begins with. [default: bytes]")
@click.option(
    "--pattern",
    type=click.Choice(["korean", "compact"]),
    default="korean",
    show_default=True,
    help="Where bpe and morpheme cut words; compact: fewer tokens. 낱말을 끊는 규칙.",
)
@click.option("--text-field", default="text", metavar="NAME", help="The field of a row that holds the text.")
@click.option("--messages-field", metavar="NAME", help="The field that holds chat messages, instead.")
@ERRORS
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
    algorithm: str,
    byte_level: bool,
    pattern: str,
    text_field: str,
    messages_field: str | None,
    errors: Any,
    kind: str | None,
) -> None:
    """Learn a vocabulary from text files: a byte-level BPE, or one of seven others. 글에서 어휘를 배웁니다.

    FILE is a .txt, .jsonl (.zst, .gz) or .parquet file, a directory or a glob. What pretraining holds out
    is held out here too, and measured at the end.
    """
    from malmoi.data.sources import SourceConfig, iterate_texts
    from malmoi.text import training
    from malmoi.text.training.room import with_text

    learn = _trainer(algorithm, byte_level, pattern)
    sources = [
        SourceConfig(path=file, text_field=text_field, messages_field=messages_field, errors=errors)
        for file in files
    ]
    special_tokens, frame = {
        None: (training.SPECIAL_TOKENS, _as_it_is),
        "encoder": (training.ENCODER_TOKENS, training.frame_for_encoders),
        "text-to-text": (training.TEXT_TO_TEXT_TOKENS, training.frame_for_text_to_text),
    }[kind]
    named = f"{files[0]}{' and the others' if files[1:] else ''}, apart from what is held out"
    with ctrl_c_at_once():
        learned = learn(
            with_text(iterate_texts(sources), corpus=named),
            vocab_size=vocab_size,
            special_tokens=special_tokens,
            show_progress=sys.stderr.isatty(),
        )
    trained = frame(learned)
    trained.save(out)
    click.echo(f"{out}: {trained.vocab_size} tokens, {len(trained.special_tokens)} of them special.")
    click.echo(f"held-out text: {measure(trained, list(iterate_texts(sources, split='held-out')))}")


def _trainer(algorithm: str, byte_level: bool, pattern: str) -> "Callable[..., Tokenizer]":
    """The function that learns as asked. Raises a usage error for a choice that the algorithm does not have."""
    from malmoi.text import training
    from malmoi.text.pretokenize import COMPACT_PATTERN, KOREAN_PATTERN

    if not byte_level and algorithm != "bpe":
        raise click.UsageError(f"--character-level is a choice of bpe, not of {algorithm}. Leave it out.")
    if pattern != "korean" and (not byte_level or algorithm not in ("bpe", "morpheme")):
        raise click.UsageError(
            f"--pattern {pattern} is for byte-level bpe and morpheme only: the others cut as `korean` does, or not "
            "at all. Leave it out."
        )
    if not byte_level:
        return training.train_character_bpe
    cut = {"korean": KOREAN_PATTERN, "compact": COMPACT_PATTERN}[pattern]
    trainers: dict[str, Callable[..., Tokenizer]] = {
        "bpe": partial(training.train_bpe, pattern=cut),
        "morpheme": partial(training.train_morpheme_bpe, pattern=cut),
        "unigram": training.train_unigram,
        "wordpiece": training.train_wordpiece,
        "word": training.train_words,
        "char": training.train_characters,
        "jamo": training.train_jamo,
    }
    return trainers[algorithm]


def _as_it_is(tokenizer: "Tokenizer") -> "Tokenizer":
    return tokenizer
