"""Tokens and their ranks, which is all that tiktoken and Tekken keep, turned into the merges of a BPE.

Where a vocabulary is a list of byte strings in the order learned, two neighbours merge if together they are one of
them, the earliest first. A tokenizer.json says instead which two tokens each was made of. Used by tiktoken.py and
tekken.py. Read next: byte_level.py.
"""

from collections.abc import Mapping

Pair = tuple[bytes, bytes]


def merges_of(ranks: Mapping[bytes, int]) -> tuple[list[Pair], bool]:
    """Return the pair that each token is made of, in order of rank, and whether every token is made of one.

    There is only one: merged alone, a token's bytes go through the same steps as inside of any text in which it
    appears, and the last step joins two. A token that no merges lead to has none; it is found as a whole word only.

    >>> merges_of({b"a": 0, b"b": 1, b"c": 2, b"bc": 3, b"abc": 4, b"ca": 5})
    ([(b'b', b'c'), (b'a', b'bc'), (b'c', b'a')], True)
    """
    parts: dict[bytes, Pair] = {}
    slow: dict[bytes, Pair] = {}
    for token in sorted(ranks, key=ranks.__getitem__):
        if len(token) == 2:
            parts[token] = token[:1], token[1:]
        elif len(token) > 2:
            if pair := _quick_pair(token, ranks, parts):
                parts[token] = pair
            elif pair := _pair(token, ranks):
                slow[token] = pair
    found = (
        sorted([*parts.items(), *slow.items()], key=lambda item: ranks[item[0]]) if slow else parts.items()
    )
    return [pair for _, pair in found], len(parts) + len(slow) == sum(len(token) > 1 for token in ranks)


def _quick_pair(token: bytes, ranks: Mapping[bytes, int], parts: Mapping[bytes, Pair]) -> Pair | None:
    """The first split into two earlier tokens that merging would not have crossed, if `parts` knows of one."""
    rank = ranks[token]
    for cut in range(len(token) - 1, 0, -1):
        left, right = token[:cut], token[cut:]
        is_earlier = ranks.get(left, rank) < rank and ranks.get(right, rank) < rank
        if is_earlier and _stay_apart(left, right, ranks, parts):
            return left, right
    return None


def _stay_apart(left: bytes, right: bytes, ranks: Mapping[bytes, int], parts: Mapping[bytes, Pair]) -> bool:
    """Whether the bytes of two tokens, merged from the start, arrive at these two.

    Takes the later of the two apart again and again, and asks each time whether the neighbours at the border would
    have merged before it was made.
    """
    limit = ranks[left + right]
    while True:
        across = ranks.get(left + right, limit)
        if across < limit:
            return False
        if len(left) > 1 and (len(right) == 1 or ranks[left] > ranks[right]):
            if left not in parts:
                return False
            limit, left = ranks[left], parts[left][1]
        elif len(right) > 1:
            if right not in parts:
                return False
            # Of two equal merges the left one, which is the one across, comes first.
            limit, right = ranks[right] + 1, parts[right][0]
        else:
            return True


def _pair(token: bytes, ranks: Mapping[bytes, int]) -> Pair | None:
    """Merge the bytes of `token` as any text is merged, until two pieces are left; None if it ends before."""
    pieces = [token[i : i + 1] for i in range(len(token))]
    while len(pieces) > 2:
        found = [
            (ranks[pair], at)
            for at in range(len(pieces) - 1)
            if (pair := pieces[at] + pieces[at + 1]) in ranks
        ]
        if not found:
            return None
        at = min(found)[1]
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return pieces[0], pieces[1]
