r"""Go on where the training of a vocabulary stopped: words, spelled in its tokens -> what to join next.

    word -> base -> tokens -> PIECES -> learn -> pieces to join, most frequent first -> expand, superwords

BPE's trainer joins characters, and does not care what a character is. So each token of the base is written as one
character of its own, which makes "merges of tokens" an ordinary training, in Rust, of minutes at most.
Read next: `hangul_pieces.py`, which says what may be joined; `growth.py`, which makes a tokenizer of it.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from malmoi.core.errors import TokenizerError

_FIRST, _LAST = 0x10000, 0x10FFFF  # beyond the surrogates, and no space among them
_CHUNK = 2**18  # characters of a text that the trainer is given


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of whole characters, the tokens that spell it, and its own spelling in the vocabulary.

    Before it is learned mostly one token, several where the base cuts through a character; after, what is joined. A
    base with bytes to fall back on spells a character that it does not know in tokens that no merge joins:
    `Piece(("<0xEA>", "<0xBF>", "<0xBB>"), "꿻")`.
    """

    tokens: tuple[str, ...]
    text: str

    def merges(self) -> list[tuple[str, str]]:
        """The pairs to join, from left to right; none where only the vocabulary has to know the piece.

        >>> Piece(("ê", "¿", "»"), "ê¿»").merges()
        [('ê', '¿'), ('ê¿', '»')]
        """
        if "".join(self.tokens) != self.text:
            return []
        begun = accumulate(self.tokens)
        return list(zip(begun, self.tokens[1:], strict=False))


class Continuation:
    """A training that is fed words and gives the pieces to join.

    A piece of several tokens is two characters to the trainer, 꿻 is 꿻₁꿻₂: it has to be joined before anything is
    joined to it, and to be as frequent for that as any pair.

    >>> na, neun, neo = (Piece((token,), token) for token in ("나", "는", "너"))
    >>> continuation = Continuation()
    >>> continuation.add([na, neun], count=3)
    >>> continuation.add([neo, neun], count=2)
    >>> [piece.text for piece in continuation.learn(5)]
    ['나는', '너는']
    """

    def __init__(self) -> None:
        self._written: dict[Piece, str] = {}
        self._pieces: dict[str, Piece] = {}
        self._words: Counter[str] = Counter()
        self._num_halves = self._num_whole = 0

    def add(self, word: Sequence[Piece], *, count: int) -> None:
        """Take a word that occurs `count` times. What is never to be joined comes as separate words.

        Raises:
            TokenizerError: the corpus has more different pieces than there are characters (some 500,000).
        """
        self._words["".join(map(self._write, word))] += count

    def learn(self, num_pieces: int, *, show_progress: bool = False) -> list[Piece]:
        """Return what to join, in order, of at most `num_pieces`: pairs that occur twice. Always the same."""
        # Each makes a word shorter. The library reserves memory for as many as it is asked for.
        most = sum(len(word) - 1 for word in self._words)
        trainer = trainers.BpeTrainer(
            vocab_size=self._num_halves + self._num_whole + min(num_pieces, most),
            min_frequency=2,
            show_progress=show_progress,
        )
        model = tokenizers.Tokenizer(models.BPE())
        model.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(" ")
        model.train_from_iterator(self._texts(), trainer)
        return [self._joined(left, right) for left, right in json.loads(model.to_str())["model"]["merges"]]

    def _write(self, piece: Piece) -> str:
        if piece in self._written:
            return self._written[piece]
        if piece.tokens == (piece.text,):
            written = chr(_LAST - self._num_whole)
            self._num_whole += 1
        else:
            # Of pairs that are as frequent the trainer takes that of the lowest characters: the halves of a piece.
            written = chr(_FIRST + self._num_halves) + chr(_FIRST + self._num_halves + 1)
            self._num_halves += 2
        if _FIRST + self._num_halves > _LAST - self._num_whole:
            raise TokenizerError(
                f"the corpus cuts words into more than {len(self._pieces)} different pieces. Use less of it."
            )
        self._written[piece] = written
        self._pieces[written] = piece
        return written

    def _texts(self) -> Iterator[str]:
        """Every word as often as it occurs, in texts of bounded length."""
        for word, count in self._words.items():
            most = max(1, _CHUNK // (len(word) + 1))
            while count > 0:
                yield f"{word} " * min(count, most)
                count -= most

    def _joined(self, left: str, right: str) -> Piece:
        if left + right in self._pieces:
            return self._pieces[left + right]
        tokens = self._spelled(left), self._spelled(right)
        return Piece(tokens, "".join(tokens))

    def _spelled(self, symbol: str) -> str:
        """The halves of a piece are always together here, the first before the second."""
        halves = range(_FIRST, _FIRST + self._num_halves)
        spelled, position = "", 0
        while position < len(symbol):
            width = 1 + (ord(symbol[position]) in halves)
            spelled += self._pieces[symbol[position : position + width]].text
            position += width
        return spelled
