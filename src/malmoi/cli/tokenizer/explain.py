"""`malmoi tokenizer explain`: how a text is cut, merge by merge, or which ways to cut it there are.

The readable twins do the work: slow, and open to view. Read next: `malmoi.text.readable.bpe`.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice, pairwise
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from malmoi.cli.stdin import read_argument_or_stdin
from malmoi.cli.tokenizer.corpus import ERRORS
from malmoi.cli.tokenizer.shown import TOKENIZER, load, measure, shown

if TYPE_CHECKING:
    from malmoi.data.files import OnBadBytes
    from malmoi.text.readable.bpe import BPE
    from malmoi.text.readable.unigram import Path, Span, Unigram
    from malmoi.text.tokenizer import Tokenizer


@click.command(short_help="Show each merge as it happens. 토큰이 되는 과정을 보여 줍니다.")
@click.argument("text")
@TOKENIZER
@click.option(
    "--train",
    "file",
    metavar="FILE",
    help="First learn merges from this file. 먼저 이 파일에서 병합을 배웁니다.",
)
@click.option(
    "--merges", type=click.IntRange(min=1), default=20, show_default=True, help="How many. 배울 병합의 수."
)
@ERRORS
@click.pass_context
def explain(
    context: click.Context, text: str, path: str | None, file: str | None, merges: int, errors: "OnBadBytes"
) -> None:
    """Show how TEXT (`-`: standard input) becomes tokens. 글이 토큰이 되는 과정을 보여 줍니다.

    BPE: a line a merge, with its number; #1 was learned first. 한<ed 95|9c> is a syllable cut after its second byte.
    Unigram: the likeliest way to cut each word and the runner-up, each with its share of all ways.
    """
    from malmoi.core.errors import TokenizerError
    from malmoi.text.readable.bpe import BPE
    from malmoi.text.readable.words import ReadableTokenizer

    if file is not None and path is not None:
        raise click.UsageError("--train makes a tokenizer, --tokenizer names one. Give one of the two.")
    for option in ("merges", "errors"):
        if file is None and context.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{option} is about the file to learn from. Name one with --train.")
    text = read_argument_or_stdin(text)
    tokenizer = load(path) if file is None else _learn(file, merges, errors)
    told = ReadableTokenizer(tokenizer)
    if told.encode(text) != tokenizer.encode(text):
        raise TokenizerError(
            "this text is not cut here as the tokenizer cuts it: the file looks for added tokens after normalising. "
            "Explain the parts before and after such a token one by one."
        )
    for word in told.words(text):
        if word.token_id is not None:
            click.echo(
                f"{shown(word.text.encode())} → {word.token_id}\n{'added':>9}  found before anything is cut"
            )
        elif isinstance(told.model, BPE):
            click.echo("\n".join(_merges(told.model, tokenizer, word.text)))
        else:
            click.echo("\n".join(_ways(told.model, tokenizer, word.text)))
    click.echo(measure(tokenizer, [text]))


def _learn(file: str, num_merges: int, errors: "OnBadBytes") -> "Tokenizer":
    """Show merges as they are learned, and return the tokenizer that has them."""
    from malmoi.core.errors import TokenizerError
    from malmoi.data.sources import SourceConfig, iterate_texts
    from malmoi.text.decoding import byte_of_character
    from malmoi.text.readable.bpe import learn
    from malmoi.text.readable.words import count_words
    from malmoi.text.training import train_bpe

    alphabet = byte_of_character()
    source = SourceConfig(path=file, holdout_permille=0, errors=errors)
    number = 0
    for number, (pair, count) in enumerate(
        islice(learn(count_words(iterate_texts(source))), num_merges), start=1
    ):
        left, right, both = (shown(bytes(alphabet[byte] for byte in part)) for part in (*pair, "".join(pair)))
        click.echo(f"{f'#{number}':>9}  {left} + {right} = {both}, {count:,} times")
    if not number:
        raise TokenizerError(f"{file} has no pair of bytes to merge. Give more text.")
    return train_bpe(iterate_texts(source), vocab_size=256 + number, special_tokens=())


def _merges(model: "BPE", tokenizer: "Tokenizer", word: str) -> Iterator[str]:
    def line(symbols: Sequence[str]) -> str:
        return _with_borders([tokenizer.token_bytes(model.vocab[symbol]) for symbol in symbols])

    states = [("", model.start(word)), *((f"#{step.rank + 1}", step.symbols) for step in model.steps(word))]
    *before, (_, end) = states
    yield f"{line(end)} → {' '.join(str(model.vocab[symbol]) for symbol in end)}"
    if before:
        yield from (f"{number:>9}  {line(symbols)}" for number, symbols in states)


def _ways(model: "Unigram", tokenizer: "Tokenizer", word: str) -> Iterator[str]:
    def piece(text: str) -> str:
        return shown(tokenizer.token_bytes(model.ids[text])) if text in model.ids else text

    def scored(span: "Span") -> str:
        return f"{piece(span.piece)} ({'' if span.piece in model.ids else 'unknown, '}{span.score:.2f})"

    def line(path: "Path") -> str:
        share = 100 * math.exp(path.score - model.log_likelihood(word))
        return f"{share:>7.3g} %  {path.score:.2f} = {' + '.join(map(scored, path.spans))}"

    paths = model.paths(word, num_paths=2)
    cut = " ".join(piece(span.piece) for span in paths[0].spans)
    yield f"{cut} → {' '.join(map(str, model.encode(word)))}"
    yield from map(line, paths)


def _with_borders(parts: Sequence[bytes]) -> str:
    """Write a word with a space between its parts; a character that is in several parts with its bytes.

    >>> _with_borders(["나".encode()[:2], "나".encode()[2:], "는".encode()])
    '나<eb 82|98> 는'
    """
    ends = {*accumulate(map(len, parts))}
    line, start = "", 0
    for character in b"".join(parts).decode("utf-8", "surrogateescape"):
        spelled = character.encode("utf-8", "surrogateescape")
        cuts = [0, *(size for size in range(1, len(spelled)) if start + size in ends), len(spelled)]
        start += len(spelled)
        line += shown(spelled)
        if len(cuts) > 2:
            line += f"<{'|'.join(spelled[begin:end].hex(' ') for begin, end in pairwise(cuts))}>"
        if start in ends:
            line += " "
    return line.rstrip()
