"""Unigram's training, told plainly: begin with too many pieces, and let go of those that are missed least.

    words and how often -> SEEDS -> (EXPECT -> MAXIMIZE) x 2 -> PRUNE -> ... -> CUT -> pieces -> unigram.Unigram

The twin of SentencePiece's trainer, rounding to 32 bits where it does (`single`, `add`), since rounding decides between
equally likely pieces. Read first: unigram.py.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import accumulate, repeat
from math import exp, inf, log

from malmoi.core.errors import TokenizerError
from malmoi.text.readable.unigram import Span, Unigram, add, single

MAX_PIECE_LENGTH = 16
Pieces = dict[str, float]


def train(words: Mapping[str, int], vocab_size: int) -> list[tuple[str, float]]:
    """Return the vocabulary that `words` and their counts teach: `<unk>`, then pieces, likeliest first.

    Kudo 2018, arXiv:1804.10959, section 3.2: EM fits the probabilities, then the quarter without which the text would
    lose least is dropped, until a tenth too many are left; the rarest of these are cut off. Characters stay, so that
    everything has a spelling. SentencePiece 0.2.3 learns the same, to the bit, in one thread from one word a line, in
    this order, each with the one ▁ that it puts in front, if it neither normalises nor splits by script or number,
    covers all characters and skips no line. Our difference: of equally likely second-best cuts it may take another.

    Raises TokenizerError: too little text, or `vocab_size` has no room for `<unk>` and the characters.

    >>> words = {"▁학교": 6, "▁학교에": 2, "▁학교는": 2, "▁학교를": 2, "▁나": 3, "▁나는": 3, "▁너를": 3}
    >>> [piece for piece, _ in train(words, vocab_size=11)]
    ['<unk>', '▁학교', '▁나', '는', '너', '나', '학', '교', '▁', '를', '에']
    """
    pieces = seeds(words)
    characters = [piece for piece in pieces if len(piece) == 1]
    if not 0 < len(characters) < vocab_size:
        why = f"{len(characters)} characters and <unk> all need a piece"
        raise TokenizerError(f"vocab_size={vocab_size}: {why}. Use {len(characters) + 1} or more, and text.")
    a_tenth_more = int(vocab_size * 1.1)
    while True:
        for _ in range(2):
            pieces = maximize(expect(pieces, words))
        pieces = prune(pieces, words, max(a_tenth_more, len(pieces) * 3 // 4))
        if len(pieces) <= a_tenth_more:
            return [("<unk>", 0.0), *cut(pieces, characters, vocab_size - 1)]


def seeds(words: Mapping[str, int]) -> Pieces:
    """Return the characters, and the substrings that go on in two ways: the more text one covers, the likelier it is.

    What always goes on in the same way is not worth having beside the longer piece. A way to go on is a byte of UTF-8,
    zero at the end of a word. At the end of the text that zero goes on with nothing, elsewhere with a word: a piece and
    its zero go on in two ways too, and SentencePiece, which trims the zero, counts the piece again.
    """
    goes_on: defaultdict[str, Counter[bytes]] = defaultdict(Counter)
    for word, times in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(start + MAX_PIECE_LENGTH, len(word)) + 1):
                goes_on[word[start:end]][word[end : end + 1].encode()[:1]] += times
    *_, last = "", *words
    covered = {}
    for piece, ways in goes_on.items():
        once = ways.total() if len(piece) == 1 or len(ways) > 1 else 0
        again = ways[b""] if len(piece) > 1 and ways[b""] > 1 and last.endswith(piece) else 0
        covered[piece] = (once + again) * len(piece)
    in_order = sorted(filter(covered.get, covered))
    in_order.sort(key=lambda it: (len(it) > 1, -covered[it], len(it) > 1 and -len(it.encode())))
    total = sum(covered.values())
    return {piece: single(log(covered[piece]) - log(total)) for piece in in_order}


def expect(pieces: Pieces, words: Mapping[str, int]) -> Pieces:
    """Return how often each piece is used, on average over all ways to cut the words: the E of EM.

    A span's share of a word's ways: (all ways to reach it) x (its own) x (all ways to go on) / (all ways).
    """
    model = Unigram(pieces.items(), rounded=single)
    uses = dict.fromkeys(pieces, 0.0)
    for word, times in sorted(words.items(), key=lambda item: (-item[1], item[0])):
        spans = model.lattice(word)
        before, after = model.forward_backward(spans, len(word))
        for span in spans:
            share = exp(add(before[span.start], span.score, after[span.end], -before[-1]))
            used = counted_as(span, pieces)
            uses[used] = add(uses[used], times * share)
    return uses


def counted_as(span: Span, pieces: Pieces) -> str:
    """Return whose use this is: a dropped character's is the first piece's, as if that were `<unk>` already."""
    return span.piece if span.piece in pieces else next(iter(pieces))


def maximize(uses: Pieces) -> Pieces:
    """Return the probabilities that these uses suggest: the M of EM. What is used less than half a time is dropped.

    For n uses it takes exp(digamma(n)), about n - 0.5, and so less of the rare (Liang and Klein, a tutorial, ACL 2007).
    """
    used = {piece: count for piece, count in uses.items() if count >= 0.5}
    if not used:
        raise TokenizerError("no piece is used half a time: there is too little text. Give more.")
    total = single(digamma(add(*used.values())))
    return {piece: single(digamma(count) - total) for piece, count in used.items()}


def digamma(x: float) -> float:
    """Return the derivative of log(gamma(x)) for x > 0, to nine digits: DLMF 5.5.2, and 5.11.8 about x - 1/2."""
    if x < 7:
        return digamma(x + 1) - 1 / x
    y = (x - 1 / 2) ** -2
    return log(x - 1 / 2) + y / 24 - 7 * y**2 / 960 + 31 * y**3 / 8064 - 127 * y**4 / 30720


def prune(pieces: Pieces, words: Mapping[str, int], size: int) -> Pieces:
    """Return the `size` pieces without which the text would lose most, were each cut in the next best way instead."""
    model = Unigram(pieces.items(), rounded=single)
    uses: Counter[str] = Counter()
    for word, times in words.items():
        for span in model.paths(word)[0].spans:
            uses[counted_as(span, pieces)] += times
    total = uses.total()

    def loss(piece: str) -> float:
        _, *others = model.paths(piece, num_paths=2)
        if not others:
            return inf  # a character
        instead = [counted_as(span, pieces) for span in others[0].spans]
        new_total = total + uses[piece] * (len(instead) - 1)
        score = single(log(uses[piece]) - single(log(total)))
        new_score = add(0.0, *(log(uses[part] + uses[piece]) - single(log(new_total)) for part in instead))
        return single(single(uses[piece] / total) * single(score - new_score))

    missed = sorted(filter(uses.get, pieces), key=loss, reverse=True)
    return {piece: pieces[piece] for piece in missed[:size]}


def cut(pieces: Pieces, characters: Iterable[str], size: int) -> list[tuple[str, float]]:
    """Return all `characters` and the likeliest other pieces, `size` in all, likeliest first.

    Characters that were dropped get the lowest score, each 0.0001 more than the one before, which is more frequent.
    """
    lowest = min(pieces.values())
    dropped = [character for character in characters if character not in pieces]
    extras = accumulate(repeat(single(0.0001)), add, initial=0.0)
    scores = pieces | {piece: add(lowest, extra) for piece, extra in zip(dropped, extras, strict=False)}
    likeliest = sorted(scores, key=lambda piece: (-scores[piece], piece))
    kept = {*sorted(likeliest, key=lambda piece: len(piece) > 1)[:size]}
    return [(piece, scores[piece]) for piece in likeliest if piece in kept]
