"""Tokens that were added to a tokenizer after its own file was made, and stand in other files beside it.

`transformers` writes them into tokenizer_config.json ("added_tokens_decoder"), older versions into added_tokens.json.
Used by files.py, for every format but tokenizer.json, which holds its own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from malmoi.core.errors import TokenizerError
from malmoi.core.files import read_json
from malmoi.text.imported.content import Part, added_token

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def with_extra_tokens(
    content: dict[str, Any], config: Mapping[str, Any], added_tokens_file: Path
) -> dict[str, Any]:
    """Return the tokenizer.json `content` with the tokens that the two files add to it, under their ids.

    Raises:
        TokenizerError: a file is broken, or gives a token another id than it has, or an id that another token has.
    """
    tokens = {token["id"]: token for token in content["added_tokens"]}
    older = read_json(added_tokens_file, error=TokenizerError) if added_tokens_file.is_file() else {}
    declared = config.get("added_tokens_decoder") or {}
    try:
        for token, token_id in older.items():
            tokens.setdefault(int(token_id), added_token(token, int(token_id), is_special=True))
        tokens |= {int(token_id): _token(int(token_id), entry) for token_id, entry in declared.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        raise TokenizerError(
            f"the added tokens of tokenizer_config.json or added_tokens.json are broken: {type(problem).__name__} "
            f"{problem}. Correct them."
        ) from None
    vocab = content["model"]["vocab"]
    ids = vocab if isinstance(vocab, dict) else {piece: index for index, (piece, _) in enumerate(vocab)}
    names = {token_id: token for token, token_id in ids.items()}
    for token_id, entry in tokens.items():
        token = entry["content"]
        if ids.get(token, token_id) != token_id or names.get(token_id, token) != token:
            raise TokenizerError(
                f"the id {token_id} is {names.get(token_id)!r}, not {token!r}. Correct the files."
            )
    new = {tokens[i]["content"]: i for i in sorted(tokens) if i not in names}
    ordered = [tokens[token_id] for token_id in sorted(tokens)]
    return content | {"added_tokens": ordered, "model": _with_vocabulary(content["model"], new)}


def _token(token_id: int, entry: Mapping[str, Any]) -> Part:
    return {"id": token_id, "content": str(entry["content"]), **{flag: bool(entry[flag]) for flag in _FLAGS}}


def _with_vocabulary(model: Part, new: Mapping[str, int]) -> Part:
    """The library counts added tokens on from the vocabulary, so only there may an id lie behind a gap."""
    if isinstance(model["vocab"], dict):
        return model | {"vocab": {**model["vocab"], **new}}
    size = len(model["vocab"])
    if list(new.values()) != list(range(size, size + len(new))):
        raise TokenizerError(
            f"added tokens have the ids {', '.join(map(str, new.values()))}, but the next free one is {size}, and this "
            "kind of vocabulary has no gaps. Correct the files."
        )
    return model
