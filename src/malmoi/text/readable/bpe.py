"""Byte-pair encoding, told plainly: how merges are learned from words, and how they cut a word into tokens.

    words and how often -> LEARN -> merges, in order          word -> BPE.steps -> symbols -> BPE.encode -> ids

A word is any string. In a byte-level file it has one printable character a byte (decoding.py), so nothing here needs
to know about bytes. The twin of `training.train_bpe` and of the library's encoder: the same merges, the same ids.
Read next: unigram.py, which decides for a whole word at once; words.py, where the words come from.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Any, NamedTuple

from malmoi.core.errors import TokenizerError

Pair = tuple[str, str]


class Step(NamedTuple):
    """A merge at work: which one (0 was learned first), of which pair, and the word's symbols after it."""

    rank: int
    pair: Pair
    symbols: list[str]


def learn(words: Mapping[str, int]) -> Iterator[tuple[Pair, int]]:
    """Yield the merges that `words`, each with its count, teach (Sennrich et al. 2016, arXiv:1508.07909, section 3.2).

    A word begins as its characters. The most frequent pair of neighbours becomes one symbol wherever it stands, and
    so on until every word is one symbol; each merge comes with the count of its pair. Of equally frequent pairs that
    one goes first whose left symbol is older, then whose right one is; characters are as old as their code points.
    Our differences: after a merge we count again only the words that it changed, not all; and no symbol marks the end
    of a word, because the space before the next one belongs to that.

    >>> list(learn({"가나": 3, "가나다": 2, "나다": 2}))
    [(('가', '나'), 5), (('나', '다'), 2), (('가나', '다'), 2)]
    """
    age = {symbol: number for number, symbol in enumerate(sorted(set("".join(words))))}
    symbols = {word: list(word) for word in words}
    counts: Counter[Pair] = Counter()
    words_with: defaultdict[Pair, set[str]] = defaultdict(set)

    def count_pairs(word: str, times: int) -> None:
        for pair in pairwise(symbols[word]):
            counts[pair] += times
            words_with[pair].add(word)

    def priority(pair: Pair) -> tuple[int, int, int]:
        return -counts[pair], age[pair[0]], age[pair[1]]

    for word, times in words.items():
        count_pairs(word, times)
    while counts:
        best = min(counts, key=priority)
        yield best, counts[best]
        age["".join(best)] = len(age)
        for word in words_with.pop(best):
            count_pairs(word, -words[word])
            symbols[word] = _merge(symbols[word], best)
            count_pairs(word, words[word])
        counts += Counter()  # forgets the pairs that are gone


def _merge(symbols: Sequence[str], pair: Pair) -> list[str]:
    """Return the symbols with each occurrence of the pair made one, from left to right: `a a a` is then `aa a`."""
    merged: list[str] = []
    for symbol in symbols:
        merged.append(symbol)
        if tuple(merged[-2:]) == pair:
            merged[-2:] = ["".join(pair)]
    return merged


@dataclass(frozen=True)
class BPE:
    """The model of a BPE tokenizer.json.

    Attributes:
        vocab: the tokens and their ids.
        ranks: the pairs that merge, and when it is their turn; 0 goes first.
        ignore_merges: a word that is a token is that token, whatever the merges make of it (Llama 3).
        byte_fallback: a character without a token is spelled in bytes, `<0xED>` (Llama 2, Gemma).
        unk_token: what stands for a character that has no spelling at all; None leaves it out, as the library does.
        fuse_unk: several such characters in a row are one `unk_token`.

    >>> BPE({"가": 0, "나": 1, "다": 2, "가나": 3}, {("가", "나"): 0}).encode("다가나")
    [2, 3]
    """

    vocab: Mapping[str, int]
    ranks: Mapping[Pair, int]
    ignore_merges: bool = False
    byte_fallback: bool = False
    unk_token: str | None = None
    fuse_unk: bool = False

    @classmethod
    def from_file(cls, model: Mapping[str, Any]) -> "BPE":
        """Read the `model` of a tokenizer.json. Raises `TokenizerError` for one that is random, or marks word ends."""
        for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
            if model[key]:
                raise TokenizerError(
                    f"the model has {key}={model[key]!r}, which is not told here. Set it to null."
                )
        options = {key: model[key] for key in ("ignore_merges", "byte_fallback", "unk_token", "fuse_unk")}
        ranks = {(left, right): rank for rank, (left, right) in enumerate(model["merges"])}
        return cls(model["vocab"], ranks, **options)

    def start(self, word: str) -> list[str]:
        """Return the symbols that a word has before any merge: as a rule its characters."""
        if self.ignore_merges and word in self.vocab:
            return [word]
        symbols: list[str] = []
        for character in word:
            spelled = [f"<0x{byte:02X}>" for byte in character.encode()]
            if character in self.vocab:
                symbols.append(character)
            elif self.byte_fallback and self.vocab.keys() >= set(spelled):
                symbols += spelled
            elif self.unk_token is not None and not (self.fuse_unk and symbols[-1:] == [self.unk_token]):
                symbols.append(self.unk_token)
        return symbols

    def steps(self, word: str) -> Iterator[Step]:
        """Yield each merge of a word as it happens: of the pairs that can merge, the one that was learned first."""
        symbols = self.start(word)
        while len(symbols) > 1:
            ranks = [self.ranks.get(pair, inf) for pair in pairwise(symbols)]
            at = ranks.index(min(ranks))  # of equals the leftmost
            pair = left, right = symbols[at], symbols[at + 1]
            if pair not in self.ranks:
                return
            symbols = [*symbols[:at], left + right, *symbols[at + 2 :]]
            yield Step(self.ranks[pair], pair, symbols)

    def encode(self, word: str) -> list[int]:
        """Return the ids of the symbols that are left when nothing merges any more."""
        symbols = self.start(word)
        for step in self.steps(word):
            symbols = step.symbols
        return [self.vocab[symbol] for symbol in symbols]
