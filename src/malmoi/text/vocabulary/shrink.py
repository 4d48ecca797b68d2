"""Fewer tokens, the same text: what a corpus never uses leaves the vocabulary, and the rest is numbered anew.

    a model's tokenizer, texts -> SHRINK -> tokenizer.json, old ids in their new order -> adapt.shrink (rows gathered)

For a product that serves Korean and English, most of a vocabulary of 130,000 is other scripts. Read next: `expand.py`,
the opposite; `adapt/shrink.py`, the model's side.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

from malmoi.core.errors import TokenizerError
from malmoi.text.tokenizer import Tokenizer

_BATCH = 256  # texts that are encoded at a time


@dataclass(frozen=True, kw_only=True)
class Shrunk:
    """A smaller tokenizer, and the ids that its tokens had: `kept[new_id]` is the old one, in ascending order."""

    tokenizer: Tokenizer
    kept: tuple[int, ...]


def shrink(
    base: Tokenizer, texts: Iterable[str], *, keeps_ascii: bool = False, keep: Collection[int] = ()
) -> Shrunk:
    """Return `base` without the tokens that `texts` never uses; `texts` themselves are cut as before.

    What stays besides: added and special tokens, bytes, what other tokens are merged from, the ids in `keep`, and with
    `keeps_ascii` every token of ASCII alone, so that English and code, whatever they say, are cut as before too. Where
    bytes are in the vocabulary any other text still has a spelling, only a longer one.

    Raises:
        TokenizerError: `texts` is empty; an id in `keep` is of no token; or as `Tokenizer.require_stated_ids` does.

    >>> from malmoi.text.training import train_bpe
    >>> base = train_bpe(["나는 학교에 간다. Да, конечно. Да, да."] * 3, vocab_size=296)
    >>> small = shrink(base, ["나는 학교에 간다."])
    >>> small.tokenizer.vocab_size, small.tokenizer.decode(small.tokenizer.encode("Да, 나는"))
    (279, 'Да, 나는')
    >>> [small.kept[i] for i in small.tokenizer.encode("나는 학교에")] == base.encode("나는 학교에")
    True
    """
    base.require_stated_ids()
    content: dict[str, Any] = json.loads(base.backend.to_str())
    names = _names(base)
    used = _used(base, texts)
    if not used:
        raise TokenizerError(
            "the corpus is empty, so no token of it is used. Give the text that is to be kept."
        )
    if absent := sorted(set(keep) - names.keys()):
        raise TokenizerError(
            f"id {absent[0]} is to be kept, but it is of no token. Check where it comes from."
        )
    used |= {*keep} | {token["id"] for token in content["added_tokens"]} | _needed(base, content["model"])
    if keeps_ascii:
        used |= {i for i in names if base.token_bytes(i).isascii()}
    if content["model"]["type"] == "BPE":
        used |= _ancestors(content["model"], (names[i] for i in used))
    kept = tuple(sorted(used))
    new_ids = {old: new for new, old in enumerate(kept)}
    content["model"] = _smaller(content["model"], {names[old]: new for old, new in new_ids.items()})
    content["added_tokens"] = [token | {"id": new_ids[token["id"]]} for token in content["added_tokens"]]
    content["post_processor"] = _renumbered(content["post_processor"], new_ids)
    config = {key: value for key, value in base.config.items() if key != "added_tokens_decoder"}  # old ids
    return Shrunk(tokenizer=Tokenizer(json.dumps(content, ensure_ascii=False), config), kept=kept)


def _names(base: Tokenizer) -> dict[int, str]:
    names = {i: base.backend.id_to_token(i) for i in range(base.vocab_size)}
    return {i: name for i, name in names.items() if name is not None}


def _used(base: Tokenizer, texts: Iterable[str]) -> set[int]:
    used: set[int] = set()
    remaining = iter(texts)
    while batch := list(islice(remaining, _BATCH)):
        for ids in base.encode_batch(batch):
            used.update(ids)
    return used


def _needed(base: Tokenizer, model: Mapping[str, Any]) -> set[int]:
    """Bytes, the unknown token, and Unigram's rarest piece, by whose score what is unknown is measured."""
    vocab = model["vocab"]
    needed = {i for i in range(base.vocab_size) if len(base.token_bytes(i)) == 1}
    if model["type"] == "Unigram":
        needed.add(min(range(len(vocab)), key=lambda i: vocab[i][1]))
        needed |= {model["unk_id"]} - {None}
        vocab = {piece: i for i, (piece, _) in enumerate(vocab)}
    elif model.get("unk_token") is not None:
        needed.add(vocab[model["unk_token"]])
    return needed | {vocab[name] for name in (f"<0x{byte:02X}>" for byte in range(256)) if name in vocab}


def _ancestors(model: Mapping[str, Any], names: Iterable[str]) -> set[int]:
    """The tokens that arise on the way to these: inside any text a token is merged as it is alone."""
    vocab: dict[str, int] = model["vocab"]
    ranks = {tuple(merge): rank for rank, merge in enumerate(model["merges"])}
    return {vocab[name] for token in names for name in _on_the_way(token, ranks) if name in vocab}


def _on_the_way(token: str, ranks: Mapping[tuple[str, ...], int]) -> Iterator[str]:
    symbols = list(token)
    yield from symbols
    while len(symbols) > 1:
        pairs = [ranks.get(pair, len(ranks)) for pair in pairwise(symbols)]
        first = min(range(len(pairs)), key=pairs.__getitem__)
        if pairs[first] == len(ranks):
            return
        symbols[first : first + 2] = [symbols[first] + symbols[first + 1]]
        yield symbols[first]


def _smaller(model: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, Any]:
    """The model with these tokens alone, under these ids; special tokens are part of it, so that they keep theirs."""
    if model["type"] == "Unigram":
        scores = dict(model["vocab"])
        unknown = None if model["unk_id"] is None else ids[model["vocab"][model["unk_id"]][0]]
        return {**model, "vocab": [(name, scores.get(name, 0.0)) for name in ids], "unk_id": unknown}
    if model["type"] != "BPE":
        return {**model, "vocab": dict(ids)}
    merges = [merge for merge in model["merges"] if {*merge, "".join(merge)} <= ids.keys()]
    return {**model, "vocab": dict(ids), "merges": merges}


def _renumbered(part: Any, new_ids: Mapping[int, int]) -> Any:
    """A post-processor with the ids of the tokens that it adds changed: a template's, or BERT's and RoBERTa's frame."""
    if not isinstance(part, dict):
        return part
    changed = dict(part)
    for key in {"sep", "cls"} & part.keys():
        name, old = part[key]
        changed[key] = [name, new_ids[old]]
    if "processors" in part:
        changed["processors"] = [_renumbered(step, new_ids) for step in part["processors"]]
    if "special_tokens" in part:
        changed["special_tokens"] = {
            name: token | {"ids": [new_ids[old] for old in token["ids"]]}
            for name, token in part["special_tokens"].items()
        }
    return changed
