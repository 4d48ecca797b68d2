"""What each token of a new vocabulary is in an old one: the same token, several, or nothing.

Place in the flow: `resize.py` makes rows of it. Read next: `resize.py`.
"""

from malmoi.core.errors import TokenizerError
from malmoi.text.tokenizer import Tokenizer


def origins(old: Tokenizer, new: Tokenizer) -> list[tuple[int, ...]]:
    """For each id of `new` the old ids that spell it: one if the token is there, none if nothing spells it.

    The same token is one of the same name, or else of the same bytes (`Ġ한` and `▁한`). Special tokens stand for
    themselves, so they go by name alone.

    >>> from malmoi.testing.tokenizer import ByteTokenizer
    >>> from malmoi.text.training import train_bpe
    >>> trained = train_bpe(["나는 학교에 간다."] * 3, vocab_size=262)
    >>> origins(ByteTokenizer(), trained)[258:262]
    [(176,), (179, 135), (184, 147), (237, 179, 135)]
    """
    special = {*old.special_tokens.values()}
    by_bytes: dict[bytes, int] = {}
    for token_id in range(old.vocab_size):
        if token_id not in special and (piece := old.token_bytes(token_id)):
            by_bytes.setdefault(piece, token_id)
    longest = max(map(len, by_bytes), default=0)
    return [_origin(old, new, token_id, by_bytes, longest) for token_id in range(new.vocab_size)]


def require_superset(old: Tokenizer, new: Tokenizer) -> None:
    """Raises TokenizerError unless every id of `old` is the same token in `new`."""
    for token_id in range(old.vocab_size):
        name = old.backend.id_to_token(token_id)
        there = new.backend.id_to_token(token_id) if token_id < new.vocab_size else None
        if name is not None and name != there:
            raise TokenizerError(
                f"id {token_id} is {_shown(old, token_id)} in the model's tokenizer and {_shown(new, token_id)} in the "
                "new one, which is not an expansion of it. Use --init align, which goes by what tokens stand for."
            )


def _shown(tokenizer: Tokenizer, token_id: int) -> str:
    """The token as text, with its name where that is another: a byte-level vocabulary writes 에 as ìĹĲ."""
    name = tokenizer.backend.id_to_token(token_id) if token_id < tokenizer.vocab_size else None
    if name is None:
        return "no token"
    piece = tokenizer.token_bytes(token_id)
    try:
        text = repr(piece.decode("utf-8"))
    except UnicodeDecodeError:
        text = f"<{piece.hex(' ')}>"
    return text if text == repr(name) else f"{text} (named {name})"


def _origin(
    old: Tokenizer, new: Tokenizer, token_id: int, by_bytes: dict[bytes, int], longest: int
) -> tuple[int, ...]:
    name, piece = new.backend.id_to_token(token_id), new.token_bytes(token_id)
    if name is None:
        return ()
    same = old.token_id(name)
    if same is not None and old.token_bytes(same) == piece:
        return (same,)
    if token_id in new.special_tokens.values():
        return ()
    if piece in by_bytes:
        return (by_bytes[piece],)
    parts = tuple(token.id for token in old.backend.model.tokenize(name))
    if b"".join(map(old.token_bytes, parts)) == piece:
        return parts
    return _longest_first(piece, by_bytes, longest)


def _longest_first(piece: bytes, by_bytes: dict[bytes, int], longest: int) -> tuple[int, ...]:
    """The spelling of a token of another kind of vocabulary, from left to right; none if it has none."""
    parts: list[int] = []
    while piece:
        widths = (n for n in range(min(longest, len(piece)), 0, -1) if piece[:n] in by_bytes)
        width = next(widths, 0)
        if not width:
            return ()
        parts.append(by_bytes[piece[:width]])
        piece = piece[width:]
    return tuple(parts)
