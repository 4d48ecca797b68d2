"""The parts of a tokenizer.json (the `tokenizers` library's format) as the pages of this package put them together.

Plain data, not the library's objects: a vocabulary of 130,000 tokens is then read by the library once.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Part = dict[str, Any]
"""One step of a tokenizer.json, such as a normaliser: `{"type": "NFC"}`."""


class Converted(NamedTuple):
    """The content of a tokenizer.json, and what a tokenizer_config.json would say beside it."""

    content: dict[str, Any]
    config: dict[str, Any]


def assemble(
    model: Part,
    *,
    normalizer: Part | None = None,
    pre_tokenizer: Part | None = None,
    post_processor: Part | None = None,
    decoder: Part | None = None,
    special: Iterable[tuple[str, int]] = (),
    added: Iterable[tuple[str, int]] = (),
) -> dict[str, Any]:
    """Return a tokenizer.json.

    `special` are control tokens and their ids; `added` are ordinary ones that are found before the model looks.
    """
    tokens = [added_token(token, token_id, is_special=True) for token, token_id in special]
    tokens += [added_token(token, token_id, is_special=False) for token, token_id in added]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": sorted(tokens, key=lambda token: int(token["id"])),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": decoder,
        "model": model,
    }


def added_token(token: str, token_id: int, *, is_special: bool) -> Part:
    """Return an entry of "added_tokens"."""
    # What is not special stands for text, and is looked for where the text has its final form.
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    return {"id": token_id, "content": token, **flags, "normalized": not is_special, "special": is_special}


def bpe(
    vocab: Mapping[str, int],
    merges: Sequence[tuple[str, str]],
    *,
    unk_token: str | None = None,
    byte_fallback: bool = False,
    ignore_merges: bool = False,
) -> Part:
    """Return a BPE model. `ignore_merges`: a word that is a token is that token, whatever the merges make of it."""
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": unk_token,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": byte_fallback,
        "ignore_merges": ignore_merges,
        "vocab": dict(vocab),
        "merges": list(merges),
    }


def replace(pattern: str, content: str, *, is_regex: bool = False) -> Part:
    """Return the step, of a normaliser or a decoder, that writes `content` for each `pattern`."""
    return {
        "type": "Replace",
        "pattern": {"Regex" if is_regex else "String": pattern},
        "content": content,
    }


def split(pattern: str, behavior: str = "Isolated") -> Part:
    """Return the pre-tokeniser that makes each match of a regular expression, and what lies between, a word.

    With "MergedWithPrevious" a match is the end of the word before it.
    """
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


def sequence(name: str, steps: Sequence[Part]) -> Part | None:
    """Return the steps as one; `name` is what the format calls the list: "normalizers", "decoders" ..."""
    if not steps:
        return None
    return steps[0] if len(steps) == 1 else {"type": "Sequence", name: list(steps)}
