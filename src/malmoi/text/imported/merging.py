"""The pieces of a SentencePiece BPE and their scores, turned into merges.

SentencePiece merges whichever two neighbours together are the piece with the highest score, of equal ones the first in
the text. A tokenizer.json has a list of pairs, the first of the list first. Used by sentencepiece.py.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import tokenizers
from tokenizers import models

from malmoi.core.errors import TokenizerError

Pair = tuple[str, str]


def merges_of_pieces(scores: Mapping[str, float]) -> list[Pair]:
    """Return every pair of pieces that together are a piece, the highest score of it first.

    Raises:
        TokenizerError: a piece has a character that is no piece, or it depends on the place in the text which of two
            pieces is made.

    >>> merges_of_pieces({"▁": -4.0, "가": -5.0, "▁가": -0.0, "▁▁": -1.0})
    [('▁', '가'), ('▁', '▁')]
    """
    longer = [piece for piece in scores if len(piece) > 1]
    if missing := set().union(*longer) - scores.keys():
        raise TokenizerError(
            f"{min(missing)!r} is in a piece, but is no piece itself, which no tokenizer.json can say."
        )
    _check_ties(longer, scores)
    merges: list[Pair] = []
    # Of pieces with one score, which are runs of one character, the longest first: it began further left.
    for piece in sorted(longer, key=lambda piece: (-scores[piece], -len(piece))):
        cuts = range(len(piece) - 1, 0, -1)
        merges += [(piece[:at], piece[at:]) for at in cuts if piece[:at] in scores and piece[at:] in scores]
    return merges


def _check_ties(pieces: Sequence[str], scores: Mapping[str, float]) -> None:
    """Refuse pieces with one score, unless they are runs of one and the same character, such as ▁▁ and ▁▁▁."""
    tied: dict[float, list[str]] = defaultdict(list)
    for piece in pieces:
        tied[scores[piece]].append(piece)
    for group in tied.values():
        if len(group) > 1 and len(set("".join(group))) > 1:
            raise TokenizerError(
                f"{group[0]!r} and {group[1]!r} have the same score, so that the first in a text would win, which no "
                "tokenizer.json can say. Take the tokenizer.json of the same model."
            )


def unreached(scores: Mapping[str, float], merges: Sequence[Pair]) -> str | None:
    """Return a piece that merging does not lead to, so that no text is cut into it; None if there is none."""
    vocab = {piece: index for index, piece in enumerate(scores)}
    model = tokenizers.Tokenizer(models.BPE(vocab, list(merges)))
    for piece, encoding in zip(vocab, model.encode_batch(list(vocab)), strict=True):
        if len(encoding.ids) > 1:
            return piece
    return None
