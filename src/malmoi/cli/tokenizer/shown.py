"""What the commands about tokenizers share: which one is meant, how a token is shown, what a text costs.

Read next: `encode.py`, the simplest of them.
"""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from malmoi.text.tokenizer import Tokenizer

TOKENIZER = click.option(
    "--tokenizer",
    "path",
    metavar="DIR",
    help="A checkpoint directory or a tokenizer's file; the shipped model's if not given.",
)


def load(path: str | None) -> "Tokenizer":
    """The tokenizer at a path, or that of the model that ships in the package."""
    from malmoi.text.tokenizer import Tokenizer
    from malmoi.weights.default import default_model

    return Tokenizer.load(path if path is not None else default_model())


def shown(piece: bytes) -> str:
    """The piece as text, spaces and line ends visible; part of a character as hexadecimal numbers."""
    try:
        return piece.decode("utf-8").replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")
    except UnicodeDecodeError:
        return f"<{piece.hex(' ')}>"


def measure(tokenizer: "Tokenizer", texts: list[str]) -> str:
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
