"""SentencePiece's format, Unigram and BPE (Kudo and Richardson 2018, arXiv:1808.06226): tokenizer.model, spiece.model.

A whole text is one sequence: it is normalised, its spaces become ▁, and pieces are looked for in all of it.

    "나는  학교에"  ->  "▁나는▁학교에"  ->  ▁나는 ▁학교 에

What a tokenizer.json cannot say of that is refused. Our difference: where two cuts of a Unigram are equally likely, as
in a run of one letter, rounding decides, and the `tokenizers` library rounds less. Read model_file.py before,
replacements.py and merging.py after.
"""

import json
import re
from collections.abc import Iterable

import tokenizers

from malmoi.core.errors import TokenizerError
from malmoi.text.imported.content import Converted, Part, assemble, bpe, replace, sequence, split
from malmoi.text.imported.merging import merges_of_pieces, unreached
from malmoi.text.imported.model_file import Kind, ModelFile, read_model_file
from malmoi.text.imported.replacements import normalizers_of

_SPACE = "▁"
_BYTE_CUTS = (r"<(?=0x\h\h>)", r"<0(?=x\h\h>)", r"<0x(?=\h\h>)", r"<0x\h(?=\h>)", r"<0x\h\h(?=>)")
"""Where `<0x41>` in a text may be cut, so that it is not taken for the token of that byte."""


def read_sentencepiece(data: bytes) -> Converted:
    """Convert the content of a `.model` file.

    Raises:
        TokenizerError: it is broken, or cuts text in a way that no tokenizer.json can.
    """
    source = read_model_file(data)
    special = [(piece.text, index) for index, piece in source.of_kind(Kind.UNKNOWN, Kind.CONTROL)]
    unknown = [index for index, _ in source.of_kind(Kind.UNKNOWN)]
    if len(unknown) != 1:
        raise TokenizerError(
            f"it has {len(unknown)} tokens for what is unknown instead of one. Fetch it again."
        )
    if source.has_byte_fallback and sum(1 for _ in source.of_kind(Kind.BYTE)) != 256:
        raise TokenizerError(
            "it spells unknown characters by bytes, but does not have all 256. Fetch it again."
        )
    if unused := [piece.text for _, piece in source.of_kind(Kind.UNUSED)]:
        raise TokenizerError(f"{unused[0]!r} is marked unused, which no tokenizer.json can say.")
    normalizer = _normalizer(source)
    _check_user_defined(source, normalizer)
    if source.algorithm == "bpe":
        model, cut, added = _bpe(source, unknown[0])
    elif source.algorithm == "unigram":
        model, cut, added = _unigram(source, unknown[0]), [], []
    else:
        raise TokenizerError(f"its algorithm is {source.algorithm}. Supported: unigram, bpe.")
    content = assemble(
        model,
        normalizer=normalizer,
        pre_tokenizer=sequence("pretokenizers", [*cut, *_cuts(source, is_whole_words=bool(cut))]),
        decoder=_decoder(source),
        special=special,
        added=added,
    )
    return Converted(content, _named(source, unknown[0]))


def _normalizer(source: ModelFile) -> Part | None:
    steps = normalizers_of(source.charsmap, source.charsmap_name)
    if source.has_whitespace_removal:
        steps.append(replace(r"\A +| +\z|(?<= ) +", "", is_regex=True))
    if source.has_dummy_prefix:
        steps.append({"type": "Prepend", "prepend": _SPACE})
    steps.append(replace(" ", _SPACE))
    if source.has_whitespace_removal:
        steps.append(replace(rf"{_SPACE}+\z", "", is_regex=True))  # a ▁ that was typed counts as a space
    return sequence("normalizers", steps)


def _decoder(source: ModelFile) -> Part | None:
    steps: list[Part] = [replace(_SPACE, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
    if source.has_dummy_prefix or source.has_whitespace_removal:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return sequence("decoders", steps)


def _unigram(source: ModelFile, unknown: int) -> Part:
    """A user's own symbol gets a score that no other cut can reach, as in SentencePiece."""
    normal = [piece.score for _, piece in source.of_kind(Kind.NORMAL)]
    # Not 0.0: the highest score is looked for from the smallest positive number up.
    highest = max([2.0**-126, *normal])
    scores = [
        piece.score if piece.kind is not Kind.USER_DEFINED else len(piece.text.encode()) * highest - 0.1
        for piece in source.pieces
    ]
    return {
        "type": "Unigram",
        "unk_id": unknown,
        "vocab": [[piece.text, score] for piece, score in zip(source.pieces, scores, strict=True)],
        "byte_fallback": source.has_byte_fallback,
    }


def _bpe(source: ModelFile, unknown: int) -> tuple[Part, list[Part], list[tuple[str, int]]]:
    """Return the model, what cuts out the user's own symbols, and those of them that are found before all else."""
    vocab = {piece.text: index for index, piece in enumerate(source.pieces)}
    scores = {piece.text: piece.score for _, piece in source.of_kind(Kind.NORMAL)}
    own = [(piece.text, index) for index, piece in source.of_kind(Kind.USER_DEFINED)]
    merges = merges_of_pieces(scores)
    # The library would look for "▁<symbol>" behind a dummy prefix, and stumbles where normalising took something
    # out. So there a pattern makes each symbol a word, and `ignore_merges` makes the word a token.
    is_changed = source.has_dummy_prefix or source.has_whitespace_removal or bool(source.charsmap)
    is_cut = bool(own) and is_changed
    if is_cut and (piece := unreached(scores, merges)):
        raise TokenizerError(
            f"no merges lead to {piece!r}, and beside user-defined symbols no tokenizer.json can say so. "
            "Take the tokenizer.json of the same model."
        )
    model = bpe(
        vocab,
        merges,
        unk_token=source.pieces[unknown].text,
        byte_fallback=source.has_byte_fallback,
        ignore_merges=is_cut,
    )
    if not is_cut:
        return model, [], own
    longest_first = sorted((symbol for symbol, _ in own), key=len, reverse=True)
    return model, [split("|".join(map(re.escape, longest_first)))], []


def _cuts(source: ModelFile, *, is_whole_words: bool) -> list[Part]:
    """Cut a text where no piece could reach across: before ▁, which makes it faster, and inside `<0x41>`.

    The latter where a string that is a token would become it: in a Unigram, or with `is_whole_words` in a BPE.
    """
    pieces = [piece.text for _, piece in source.of_kind(Kind.NORMAL, Kind.USER_DEFINED)]
    cuts: list[Part] = []
    if _SPACE in pieces and not _any_has(pieces, f"[^{_SPACE}]{_SPACE}"):
        cuts.append(split(f"{_SPACE}+[^{_SPACE}]*"))
    if source.has_byte_fallback and (source.algorithm == "unigram" or is_whole_words):
        borders = ("<0", "0x", r"x[0-9A-Fa-f]", "[0-9A-Fa-f]{2}", "[0-9A-Fa-f]>")
        free = [cut for cut, border in zip(_BYTE_CUTS, borders, strict=True) if not _any_has(pieces, border)]
        if not free:
            raise TokenizerError(
                "its pieces reach across every place in `<0x41>`, so that a tokenizer.json would take it for a byte."
            )
        cuts.append(split(free[0], "MergedWithPrevious"))
    return cuts


def _any_has(pieces: Iterable[str], pattern: str) -> bool:
    has = re.compile(pattern).search
    return any(map(has, pieces))


def _check_user_defined(source: ModelFile, normalizer: Part | None) -> None:
    """Refuse a user's own symbol that normalising would change: there SentencePiece spares it."""
    empty = json.dumps(assemble(bpe({}, []), normalizer=normalizer))
    steps = tokenizers.Tokenizer.from_str(empty).normalizer
    prefix = _SPACE if source.has_dummy_prefix else ""
    for _, piece in source.of_kind(Kind.USER_DEFINED):
        # Between letters, so that spaces at its ends are no spaces at the ends of the text.
        normalised = f"{prefix}x{piece.text}x" if steps is None else steps.normalize_str(f"x{piece.text}x")
        if normalised != f"{prefix}x{piece.text}x":
            raise TokenizerError(
                f"the user-defined symbol {piece.text!r} would be normalised to {normalised[len(prefix) + 1 : -1]!r} "
                "before it is found, in a tokenizer.json. Take that of the same model."
            )


def _named(source: ModelFile, unknown: int) -> dict[str, str]:
    names = {f"{role}_token": index for role, index in source.ids.items()} | {"unk_token": unknown}
    control = dict(source.of_kind(Kind.CONTROL, Kind.UNKNOWN))
    return {name: control[index].text for name, index in names.items() if index in control}
