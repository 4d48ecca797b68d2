"""A tokenizer for text that anybody may have written: no string in it becomes a special token.

`Tokenizer` holds two of the library's tokenizers over one vocabulary: one finds special tokens in a text, the
other, made here, reads their strings like any other text. Ids are the same. Read next: tokenizer.py.
"""

import json
import secrets
from collections.abc import Collection
from typing import Any

import tokenizers


def open_whole(source: str) -> tokenizers.Tokenizer:
    """Open the content of a tokenizer.json, without the truncation and padding that it may ask for."""
    tokenizer = tokenizers.Tokenizer.from_str(source)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


LONG_TEXT = 2**13
"""Characters from which on it is worth a few microseconds to let other threads go on: they take about 8 ms."""


def encode(tokenizer: tokenizers.Tokenizer, text: str) -> tokenizers.Encoding:
    """Encode `text` with nothing added; a long one keeps no other thread waiting.

    The library holds the interpreter's lock while it encodes a text, but not while it encodes several.
    """
    if len(text) < LONG_TEXT:
        return tokenizer.encode(text, add_special_tokens=False)
    [encoding] = tokenizer.encode_batch([text], add_special_tokens=False)
    return encoding


def for_plain_text(
    tokenizer: tokenizers.Tokenizer, content: dict[str, Any], special: Collection[str]
) -> tokenizers.Tokenizer:
    """Return a tokenizer with the ids of `tokenizer` to which the strings in `special` are plain text.

    `content` is the tokenizer.json that `tokenizer` was opened from.

    The library looks for special tokens before anything else; `encode_special_tokens` turns that off. But a
    Unigram, WordPiece or word-level *model* may know such a string by itself: T5's gives `</s>` as one piece.
    In such a vocabulary the special tokens get random names, which nobody can type.
    """
    if not _known(content["model"], special):
        plain = tokenizers.Tokenizer(tokenizer.model)  # shared: a copy of 128,000 tokens takes half a second
        if tokenizer.normalizer is not None:
            plain.normalizer = tokenizer.normalizer
        if tokenizer.pre_tokenizer is not None:
            plain.pre_tokenizer = tokenizer.pre_tokenizer
        plain.add_tokens([token for _, token in sorted(tokenizer.get_added_tokens_decoder().items())])
    else:
        plain = open_whole(json.dumps(_with_random_names(content, special)))
    plain.encode_special_tokens = True
    return plain


def _known(model: dict[str, Any], special: Collection[str]) -> set[str]:
    """Return the strings in `special` that the model may make of a text: a BPE only what its merges lead to."""
    vocab = model["vocab"]
    known = set(special).intersection(vocab if isinstance(vocab, dict) else (piece for piece, _ in vocab))
    is_plain_bpe = "merges" in model and not any(
        model.get(name) for name in ("ignore_merges", "continuing_subword_prefix", "end_of_word_suffix")
    )
    if not known or not is_plain_bpe:
        return known
    merged = {_involved(merge)[2] for merge in model["merges"]}
    return {token for token in known if token in merged or len(token) == 1}


def _with_random_names(content: dict[str, Any], special: Collection[str]) -> dict[str, Any]:
    """Return a tokenizer.json in which the special tokens have other names and the same ids."""
    names = {token: secrets.token_hex(16) for token in special}
    added = [
        token | {"content": names.get(token["content"], token["content"])}
        for token in content["added_tokens"]
    ]
    model = dict(content["model"])
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(piece, piece): token_id for piece, token_id in model["vocab"].items()}
    else:  # Unigram: (piece, score), the index is the id
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if names.keys().isdisjoint(_involved(merge))]
    # The post-processor would look for the old names, and only adds tokens that nobody asks for here.
    return content | {"added_tokens": added, "model": model, "post_processor": None}


def _involved(merge: str | list[str]) -> tuple[str, str, str]:
    """Return the two tokens of a merge, stored as `"a b"` or `["a", "b"]`, and the one that it makes."""
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left, right, left + right
