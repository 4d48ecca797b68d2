"""Unigram's training, told plainly: begin with too many pieces, and let go of those that are missed least.

    words and how often -> SEEDS -> (EXPECT -> MAXIMIZE) x 2 -> PRUNE -> ... -> CUT -> pieces -> unigram.Unigram

The twin of SentencePiece's trainer, step by step: the same pieces, if none are equally likely. Read first: unigram.py.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from math import exp, inf, log

from malmoi.core.errors import TokenizerError
from malmoi.text.readable.unigram import Span, Unigram, sums_of_paths

MAX_PIECE_LENGTH = 16
Pieces = dict[str, float]


def train(words: Mapping[str, int], vocab_size: int) -> list[tuple[str, float]]:
    """Return the vocabulary that `words` and their counts teach: `<unk>`, then pieces, likeliest first.

    Kudo 2018, arXiv:1804.10959, section 3.2: EM fits the probabilities, then the quarter without which the text would
    lose least is dropped, until a tenth too many are left; the rarest of these are cut off. Characters stay, so that
    everything has a spelling. SentencePiece 0.2.3 learns the same from a file with one word a line, in this order, if
    it neither normalises, splits by script or number, nor covers less than all characters. Our difference: in its 32
    bits rounding chooses among equally likely pieces; it has at most a million seeds.

    Raises TokenizerError: too little text, or `vocab_size` has no room for `<unk>` and the characters.

    >>> words = {"학교": 6, "학교에": 2, "학교는": 2, "학교를": 2, "나": 3, "나는": 3, "너를": 3}
    >>> [piece for piece, _ in train(words, vocab_size=9)]
    ['<unk>', '학교', '나', '는', '너', '학', '를', '교', '에']
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

    What always goes on in the same way is not worth having beside the longer piece. A way to go on is a byte, since
    SentencePiece looks for substrings in UTF-8; the end of a word is one, and the end of the text another.
    """
    counts: Counter[str] = Counter()
    goes_on: defaultdict[str, set[bytes]] = defaultdict(set)
    for word, times in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(start + MAX_PIECE_LENGTH, len(word)) + 1):
                counts[word[start:end]] += times
                goes_on[word[start:end]].add(word[end : end + 1].encode()[:1])
    *_, last = "", *words
    for start in range(len(last)):
        goes_on[last[start:]].add(b"end of text")
    covered = {
        piece: count * len(piece)
        for piece, count in counts.items()
        if len(piece) == 1 or (count > 1 and len(goes_on[piece]) > 1)
    }
    total = sum(covered.values())
    in_order = sorted(covered, key=lambda piece: (len(piece) > 1, -covered[piece], piece))
    return {piece: log(covered[piece] / total) for piece in in_order}


def expect(pieces: Pieces, words: Mapping[str, int]) -> Pieces:
    """Return how often each piece is used, on average over all ways to cut the words: the E of EM.

    A span's share of a word's ways: (all ways to reach it) x (its own) x (all ways to go on) / (all ways).
    """
    model = Unigram(pieces.items())
    uses = dict.fromkeys(pieces, 0.0)
    for word, times in words.items():
        spans, length = model.lattice(word), len(word)
        backwards = sorted(
            Span(length - end, length - start, piece, score) for start, end, piece, score in spans
        )
        before, after = sums_of_paths(spans, length), sums_of_paths(backwards, length)
        for span in spans:
            share = exp(before[span.start] + span.score + after[length - span.end] - before[length])
            uses[counted_as(span, pieces)] += times * share
    return uses


def counted_as(span: Span, pieces: Pieces) -> str:
    """Return whose use this is: a dropped character's is the first piece's, as if that were `<unk>` already."""
    return span.piece if span.piece in pieces else next(iter(pieces))


def maximize(uses: Pieces) -> Pieces:
    """Return the probabilities that these uses suggest: the M of EM. What is used less than half a time is dropped.

    For n uses it takes exp(digamma(n)), about n - 0.5, which drives out the rare: variational Bayes (Liang and Klein,
    "Structured Bayesian Nonparametric Models with Variational Inference", ACL 2007).
    """
    used = {piece: count for piece, count in uses.items() if count >= 0.5}
    if not used:
        raise TokenizerError("no piece is used half a time: there is too little text. Give more.")
    total = digamma(sum(used.values()))
    return {piece: digamma(count) - total for piece, count in used.items()}


def digamma(x: float) -> float:
    """Return the derivative of log(gamma(x)) for x > 0, to ten digits (Abramowitz and Stegun 1964, 6.3.5, 6.3.18)."""
    if x < 10:
        return digamma(x + 1) - 1 / x
    return log(x) - 1 / (2 * x) - 1 / (12 * x**2) + 1 / (120 * x**4) - 1 / (252 * x**6)


def prune(pieces: Pieces, words: Mapping[str, int], size: int) -> Pieces:
    """Return the `size` pieces without which the text would lose most, were each cut in the next best way instead."""
    model = Unigram(pieces.items())
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
        score = sum(log((uses[part] + uses[piece]) / new_total) for part in instead)
        return uses[piece] * (log(uses[piece] / total) - score)

    missed = sorted(filter(uses.get, pieces), key=loss, reverse=True)
    return {piece: pieces[piece] for piece in missed[:size]}


def cut(pieces: Pieces, characters: Iterable[str], size: int) -> list[tuple[str, float]]:
    """Return all `characters` and the likeliest other pieces, `size` in all, likeliest first.

    Characters that were dropped get the lowest score, each 0.0001 more than the one before, which is more frequent.
    """
    lowest = min(pieces.values())
    dropped = [character for character in characters if character not in pieces]
    scores = {character: lowest + 0.0001 * place for place, character in enumerate(dropped)} | pieces
    likeliest = sorted(scores, key=lambda piece: (-scores[piece], piece))
    kept = {*sorted(likeliest, key=lambda piece: len(piece) > 1)[:size]}
    return [(piece, scores[piece]) for piece in likeliest if piece in kept]
