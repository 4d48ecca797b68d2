"""Unigram's training, told plainly: begin with too many pieces, and let go of those that are missed least.

    words and how often -> seeds -> (expect -> maximize) x 2 -> prune -> ... -> pieces -> unigram.Unigram

The twin of SentencePiece's trainer and of the `tokenizers` library's: with as many pieces a text is at least as likely.
Read first: unigram.py.
"""

from collections import Counter
from collections.abc import Mapping
from math import exp, inf, log

from malmoi.core.errors import TokenizerError
from malmoi.text.readable.unigram import Span, Unigram, sums_of_paths

MAX_PIECE_LENGTH = 16
Pieces = dict[str, float]


def train(words: Mapping[str, int], vocab_size: int) -> list[tuple[str, float]]:
    """Return at most `vocab_size` pieces, likeliest first, that `words` and their counts teach.

    Kudo 2018, arXiv:1804.10959, section 3.2: EM fits the probabilities, then the fifth without which the text would
    lose least is dropped, until few enough are left. Characters stay, so that everything has a spelling.

    Our difference: the probabilities are fitted once more after the last pruning. SentencePiece stops EM at a tenth too
    many and cuts these off by their probability, which costs likelihood; and it takes exp(digamma(n)) for a count n.

    Raises:
        TokenizerError: there is nothing to learn from, or `vocab_size` has no room for the characters.

    >>> words = {"학교": 6, "학교에": 2, "학교는": 2, "학교를": 2, "나": 3, "나는": 3, "너를": 3}
    >>> [piece for piece, _ in train(words, vocab_size=8)]
    ['학교', '나', '는', '를', '너', '에', '교', '학']
    """
    num_characters = len(set("".join(words)))
    if not 0 < num_characters <= vocab_size:
        raise TokenizerError(
            f"vocab_size={vocab_size}, and the text has {num_characters} characters, which all need a piece. "
            f"Use {num_characters} or more, and text."
        )
    pieces = seeds(words)
    while True:
        for _ in range(2):
            pieces = maximize(expect(pieces, words))
        if len(pieces) <= vocab_size:
            return sorted(pieces.items(), key=lambda item: (-item[1], item[0]))
        pieces = prune(pieces, words, max(vocab_size, len(pieces) * 4 // 5))


def seeds(words: Mapping[str, int]) -> Pieces:
    """Return the characters, and the substrings that occur twice: the more text one covers, the likelier it is."""
    counts: Counter[str] = Counter()
    for word, times in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(start + MAX_PIECE_LENGTH, len(word)) + 1):
                counts[word[start:end]] += times
    # What is always followed by the same character is not worth having beside the longer piece.
    beginnings = {piece[:-1] for piece, count in counts.items() if count == counts[piece[:-1]]}
    covered = {
        piece: count * len(piece)
        for piece, count in counts.items()
        if len(piece) == 1 or (count > 1 and piece not in beginnings)
    }
    total = sum(covered.values())
    return {piece: log(weight / total) for piece, weight in covered.items()}


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
        for start, end, piece, score in spans:
            uses[piece] += times * exp(before[start] + score + after[length - end] - before[length])
    return uses


def maximize(uses: Pieces) -> Pieces:
    """Return the probabilities that make these uses likeliest, each its share: the M of EM.

    What is used less than half a time is dropped, as SentencePiece does; a character counts as a half then.
    """
    used = {piece: max(count, 0.5) for piece, count in uses.items() if count >= 0.5 or len(piece) == 1}
    total = sum(used.values())
    return {piece: log(count / total) for piece, count in used.items()}


def prune(pieces: Pieces, words: Mapping[str, int], size: int) -> Pieces:
    """Return the `size` pieces without which the text would lose most, were each cut in the next best way instead."""
    model = Unigram(pieces.items())
    uses: Counter[str] = Counter()
    for word, times in words.items():
        for span in model.paths(word)[0].spans:
            uses[span.piece] += times
    total = uses.total()

    def loss(piece: str) -> float:
        _, *others = model.paths(piece, num_paths=2)
        if not others:
            return inf  # a character
        if not uses[piece]:
            return 0.0
        instead = [span.piece for span in others[0].spans]
        new_total = total + uses[piece] * (len(instead) - 1)
        score = sum(log((uses[part] + uses[piece]) / new_total) for part in instead)
        return uses[piece] * (log(uses[piece] / total) - score)

    return {piece: pieces[piece] for piece in sorted(pieces, key=loss, reverse=True)[:size]}
