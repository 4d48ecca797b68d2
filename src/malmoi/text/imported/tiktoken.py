"""tiktoken's format: a token a line, its bytes in base64, and its rank, which is its id.

    IQ== 0
    Ig== 1

OpenAI's encodings come so, and Llama 3's (as tokenizer.model) and Qwen's. Where words are cut and which control tokens
there are is part of the program that reads the file: patterns.py has it. Read next: byte_level.py.
"""

import binascii
import hashlib
import io
import re

import tokenizers

from malmoi.core.errors import TokenizerError
from malmoi.text.imported.byte_level import from_ranks
from malmoi.text.imported.content import Converted
from malmoi.text.imported.patterns import ENCODINGS

_LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}) (\d{1,9})\s*")


def is_tiktoken(data: bytes) -> bool:
    """Say by the first line of a file whether it is of this format: Llama 3's name says that it is a model."""
    return _LINE.fullmatch(io.BytesIO(data).readline(200)) is not None


def read_tiktoken(
    data: bytes, stem: str, *, encoding: str | None = None, pattern: str | None = None
) -> Converted:
    r"""Convert a file of ranks: with the pattern and the control tokens of `encoding`, or with `pattern` and none.

    Without both, the file's name without its end, `stem`, or its content has to be one that we know. The `tokenizers`
    library reads `pattern` in Oniguruma's dialect.

    Raises:
        TokenizerError: a line is broken, the encoding is not known, or the file is not of its size.
    """
    ranks = _read_ranks(data)
    if pattern is not None:
        if encoding is not None:
            raise TokenizerError("an encoding has a pattern of its own. Give one of the two.")
        return Converted(from_ranks(ranks, pattern=_checked(pattern), special={}), {})
    name = encoding or _recognised(stem, data)
    if name not in ENCODINGS:
        raise TokenizerError(
            f"{'which encoding this is' if name is None else f'the encoding {name!r}'} is not known, and the file does "
            "not hold the pattern that cuts words. Import it with `malmoi tokenizer import` and --encoding "
            f"({', '.join(ENCODINGS)}) or --pattern."
        )
    known = ENCODINGS[name]
    if len(ranks) != known.num_ranks:
        raise TokenizerError(
            f"{name} has {known.num_ranks} ranks, and the file {len(ranks)}. Fetch it again, or name its own encoding."
        )
    normalizers = [] if known.normalizer is None else [{"type": known.normalizer}]
    content = from_ranks(ranks, pattern=known.pattern, special=known.special, normalizers=normalizers)
    return Converted(content, dict(known.config))


def _read_ranks(data: bytes) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(data.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            if (found := _LINE.fullmatch(line)) is None:
                raise ValueError("it is not base64 and a number")
            token = binascii.a2b_base64(found[1], strict_mode=True)
            if token in ranks:
                raise ValueError("the token has a rank already")
        except ValueError as problem:
            raise TokenizerError(f"line {number}: {line[:40]!r}: {problem}. Fetch the file again.") from None
        ranks[token] = int(found[2])
    return ranks


def _recognised(stem: str, data: bytes) -> str | None:
    if stem in ENCODINGS:
        return stem
    digest = hashlib.sha256(data).hexdigest()
    return next((name for name, known in ENCODINGS.items() if known.sha256 == digest), None)


def _checked(pattern: str) -> str:
    r"""Refuse what Oniguruma cannot read, or reads in another way than tiktoken: `x{1,3}+`, `$` before a line's end."""
    try:
        tokenizers.Regex(pattern)
    except Exception as problem:
        raise TokenizerError(
            f"the pattern {pattern!r} (--pattern) is no regular expression: {problem}. Correct it."
        ) from problem
    outside = re.sub(r"\[(?:\\.|[^\]\\])*\]|\\.", "", pattern)
    if re.search(r"\{[\d,]+\}\+", outside):
        raise TokenizerError("the pattern has `}+`, which would repeat a repetition. Leave the + out.")
    if "$" in outside:
        raise TokenizerError(r"the pattern has `$`, which is also the end of a line here. Write \z instead.")
    return pattern
