"""Unigram, told plainly: pieces with probabilities, and the likeliest way to cut a word into them.

    unigram_training.train -> pieces        word -> LATTICE -> PATHS -> ENCODE -> ids

Where BPE merges step by step and never looks back, Unigram weighs all ways to cut a word against each other.
The twin of the `tokenizers` library's model: the same ids. Read first: bpe.py. Read next: unigram_training.py.
"""

from collections.abc import Callable, Iterable, Mapping
from ctypes import c_float
from functools import reduce
from itertools import groupby
from math import exp, inf, log1p
from typing import Any, NamedTuple

from malmoi.core.errors import TokenizerError

UNKNOWN_PENALTY = 10.0
"""An unknown character is e^10 times less likely than the rarest piece, as in SentencePiece."""


def single(number: float) -> float:
    """Return what 32 bits hold of a number: all that SentencePiece keeps."""
    return c_float(number).value


def add(*numbers: float) -> float:
    """Return the sum, rounded to 32 bits after each addition."""
    return reduce(lambda total, number: single(total + number), numbers)


class Span(NamedTuple):
    """A piece in its place: characters `start` to `end` of a word, and the piece's log-probability."""

    start: int
    end: int
    piece: str
    score: float


class Path(NamedTuple):
    """A way to cut a word, and its log-probability: the sum of its pieces'."""

    score: float
    spans: tuple[Span, ...]


class Unigram:
    """The model of a Unigram tokenizer.json (Kudo 2018, arXiv:1804.10959, section 3.2): pieces are independent draws.

    Args:
        pieces: each with its log-probability; its place in the list is its id.
        unk_id: what stands for unknown characters in a row.
        byte_fallback: these are spelled in bytes instead, `<0xED>`, where the bytes are pieces.
        rounded: what is kept of each sum of log-probabilities: all of it, as in the library, or `single`.

    >>> model = Unigram([("가", -2.0), ("나", -2.5), ("가나", -4.0), ("다", -3.0)])
    >>> [([span.piece for span in path.spans], path.score) for path in model.paths("가나다", 2)]
    [(['가나', '다'], -7.0), (['가', '나', '다'], -7.5)]
    """

    def __init__(
        self,
        pieces: Iterable[tuple[str, float]],
        unk_id: int | None = None,
        *,
        byte_fallback: bool = False,
        rounded: Callable[[float], float] = float,
    ) -> None:
        pieces = list(pieces)
        self.ids = {piece: token_id for token_id, (piece, _) in enumerate(pieces)}
        self.scores = dict(pieces)
        self.unk_id, self.byte_fallback, self.rounded = unk_id, byte_fallback, rounded
        self.unknown_score = rounded(min(score for _, score in pieces) - UNKNOWN_PENALTY)
        self.max_length = max(map(len, self.ids))

    @classmethod
    def from_file(cls, model: Mapping[str, Any]) -> "Unigram":
        """Read the `model` of a tokenizer.json."""
        return cls(map(tuple, model["vocab"]), model["unk_id"], byte_fallback=model["byte_fallback"])

    def lattice(self, word: str) -> list[Span]:
        """Return every piece in every place where it fits. A character that is no piece stands for itself."""
        spans = []
        for start, character in enumerate(word):
            for end in range(start + 1, min(start + self.max_length, len(word)) + 1):
                if (piece := word[start:end]) in self.scores:
                    spans.append(Span(start, end, piece, self.scores[piece]))
            if character not in self.scores:
                spans.append(Span(start, start + 1, character, self.unknown_score))
        return spans

    def paths(self, word: str, num_paths: int = 1) -> list[Path]:
        """Return the likeliest ways to cut a word, best first: Viterbi's algorithm with several survivors.

        Of equally likely ways that one goes first whose last piece, where they differ, is longer, as in the library.
        """
        best: list[list[Path]] = [[Path(0.0, ())], *([] for _ in word)]
        for span in self.lattice(word):
            longer = [
                Path(self.rounded(path.score + span.score), (*path.spans, span)) for path in best[span.start]
            ]
            best[span.end] = sorted(best[span.end] + longer, key=lambda path: -path.score)[:num_paths]
        return best[-1]

    def log_likelihood(self, word: str) -> float:
        """Return the logarithm of a word's probability: of all its paths, not of the best one only."""
        return self.forward_backward(self.lattice(word), len(word))[0][-1]

    def forward_backward(self, spans: Iterable[Span], length: int) -> tuple[list[float], list[float]]:
        """Return the log-probabilities of getting to each place by any path, and from each place to the end."""
        forward = [0.0, *([-inf] * length)]
        backward = forward[::-1]
        for start, end, _, score in spans:
            forward[end] = self._either(forward[end], forward[start] + score)
        for start, end, _, score in sorted(spans, key=lambda span: -span.start):
            backward[start] = self._either(backward[start], backward[end] + score)
        return forward, backward

    def _either(self, *scores: float) -> float:
        low, high = sorted(map(self.rounded, scores))
        return self.rounded(high + log1p(exp(self.rounded(low - high))))

    def encode(self, word: str) -> list[int]:
        """Return the ids of the best path.

        Raises:
            TokenizerError: a character has no piece, and the model no `unk_id`.
        """
        ids: list[int] = []
        for is_unknown, spans in groupby(self.paths(word)[0].spans, self._is_unknown):
            pieces = [span.piece for span in spans]
            ids += self._spelled("".join(pieces)) if is_unknown else (self.ids[piece] for piece in pieces)
        return ids

    def _is_unknown(self, span: Span) -> bool:
        return self.ids.get(span.piece, self.unk_id) == self.unk_id

    def _spelled(self, unknown: str) -> list[int]:
        spelled = [f"<0x{byte:02X}>" for byte in unknown.encode()]
        if self.byte_fallback and self.ids.keys() >= set(spelled):
            return [self.ids[piece] for piece in spelled]
        if self.unk_id is None:
            raise TokenizerError(f"no piece spells {unknown!r}, and the model has no unk_id. Give it one.")
        return [self.unk_id]
