"""What an algorithm has to know of all texts before it begins: which words they use, which characters.

    texts, read once, one at a time -> counts | the texts again, from a temporary file, without what is too rare

A trainer of the library keeps every different word, and a large corpus has ever more of them: the rare ones are left
out, so that memory has a bound. Some algorithms give every character of the corpus a token of its own, and thousands
occur a few times: those are left out too. Read next: bpe.py, which learns from `common_words`, or from both.
"""

import json
import os
import re
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import groupby, islice

from malmoi.core.errors import TokenizerError
from malmoi.text.training.room import with_text

COVERAGE = 0.9995
"""The share of all characters whose own tokens a vocabulary has, as in SentencePiece for Korean; the rest are bytes."""

ASCII = ("\n", *map(chr, range(0x20, 0x7F)))
"""The line end and printable ASCII: in every alphabet, however rare they are in the corpus."""

MAX_CHARACTERS = 2**25
"""The different words that are counted and learned from have so many characters together at most: 6 million eojeols.

A trainer's memory grows with them, to about 8 GB for byte-level BPE (docs/tokenizers.md).
"""


def read(texts: Iterable[str], *, show_progress: bool) -> Iterator[str]:
    """Give the texts in NFC, one at a time, with a count of them on standard error if wished.

    Raises:
        TokenizerError: behind the last one, if there was no text in any.
    """
    number = 0
    for number, text in enumerate(with_text(texts), start=1):
        if show_progress and number % 1000 == 0:
            print(f"\r{number:,} texts read", end="", file=sys.stderr, flush=True)
        yield unicodedata.normalize("NFC", text)
    if show_progress:
        print(f"\r{number:,} texts read", file=sys.stderr)


def by_frequency(counts: Counter[str]) -> list[str]:
    """What was counted, the most frequent first, and of equals the lower in Unicode: the same in every run.

    >>> by_frequency(Counter("나는 나다"))
    ['나', ' ', '는', '다']
    """
    return sorted(counts, key=lambda counted: (-counts[counted], counted))


class CommonWords:
    """How often what stands between spaces occurs, in bounded memory (after Manku and Motwani 2002, "lossy counting").

    Whenever the different words have more than `MAX_CHARACTERS` together, the rarer half of them is forgotten, of
    equals those that came first, and before all others a word that alone has more. A word that is among the more
    frequent half each time is counted exactly.

    >>> words = CommonWords()
    >>> words.add("나는 간다")
    >>> words.add("나는 온다")
    >>> words.counts["나는"], words.are_all
    (2, True)
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.are_all = True
        """No word was forgotten."""
        self._num_characters = 0

    def add(self, text: str) -> None:
        """Count the words of `text`."""
        num_known = len(self.counts)
        self.counts.update(text.split())
        new = islice(reversed(self.counts), len(self.counts) - num_known)
        self._num_characters += sum(map(len, new))
        while self._num_characters > MAX_CHARACTERS:
            self.are_all = False
            for word in sorted(self.counts, key=self._worth)[: (len(self.counts) + 1) // 2]:
                del self.counts[word]
                self._num_characters -= len(word)

    def _worth(self, word: str) -> tuple[bool, int]:
        return len(word) <= MAX_CHARACTERS, self.counts[word]


@contextmanager
def common_words(texts: Iterable[str]) -> Iterator[Iterator[str]]:
    """Lend the texts once more: as they are if `CommonWords` holds all their words, else without the others.

    In that case a text comes as the stretches between those that were forgotten, so that what stood around one is not
    learned as neighbours. The texts wait in a temporary file.

        with common_words(texts) as common_texts:
            ...

    Raises:
        TokenizerError: the temporary file cannot be written, or no word has room.
    """
    words = CommonWords()
    with _on_disk(_each_to(words.add, texts)) as again:
        if not (words.are_all or words.counts):
            raise TokenizerError(
                f"every word of the corpus is longer than {MAX_CHARACTERS:,} characters. Cut the texts."
            )
        common_texts = again if words.are_all else _in_stretches(again, words.counts)
        del words  # so that they are gone when `common_texts` ends: then a trainer needs the most memory
        yield common_texts


def _in_stretches(texts: Iterable[str], words: Container[str]) -> Iterator[str]:
    for text in texts:
        yield from stretches(text, words)


def stretches(text: str, words: Container[str]) -> Iterator[str]:
    """Cut out what is not among `words`, with the spaces before it, and give what is left.

    >>> list(stretches("나는 오늘 학교에 걸어 간다", {"나는", "오늘", "간다"}))
    ['나는 오늘', ' 간다']
    """
    # Without `rstrip` each space at the end would be a start from which to look for a word in vain.
    found_words = re.findall(r"\s*\S+", text.rstrip())
    for is_common, found in groupby(found_words, key=lambda word: word.lstrip() in words):
        if is_common:
            yield "".join(found)


@contextmanager
def common_characters(texts: Iterable[str]) -> Iterator[tuple[list[str], Iterator[str]]]:
    """Lend the characters that cover the texts, sorted, and `common_words` with a line end for every other one.

    with common_characters(texts) as (characters, common_texts):
        ...
    """
    counts: Counter[str] = Counter()
    with common_words(_each_to(counts.update, texts)) as common_texts:
        characters = sorted({*ASCII, *covering(counts)})
        rare = re.compile(f"[^{re.escape(''.join(characters))}]")
        # A line end begins a new piece, so what stood around a rare character is not learned as neighbours.
        yield characters, (rare.sub("\n", text) for text in common_texts)


def covering(counts: Counter[str]) -> list[str]:
    """The most frequent characters that together are `COVERAGE` of all. NUL is none: the library cuts words with it."""
    wanted, chosen, covered = COVERAGE * counts.total(), [], 0
    for character in by_frequency(counts):
        if covered >= wanted:
            break
        covered += counts[character]
        chosen.append(character)
    return [character for character in chosen if character != "\0"]


def _each_to(count: Callable[[str], None], texts: Iterable[str]) -> Iterator[str]:
    """Give the texts, each counted on its way."""
    for text in texts:
        count(text)
        yield text


@contextmanager
def _on_disk(texts: Iterable[str]) -> Iterator[Iterator[str]]:
    """Read all texts, and lend them once more from a temporary file, which is as large as they are."""
    with _writing():
        file = tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogatepass")  # noqa: SIM115 (closed below)
    try:
        for text in texts:
            line = json.dumps(text, ensure_ascii=False) + "\n"
            with _writing():
                file.write(line)
        with _writing():
            file.seek(0)
        yield map(json.loads, file)
    finally:
        with suppress(OSError):  # what a full disk did not take is still to be written
            file.close()


@contextmanager
def _writing() -> Iterator[None]:
    """Say where it was that the block could not write."""
    try:
        yield
    except OSError as problem:
        # Nowhere can a file be written: then say where it was wished for.
        where = tempfile.tempdir or os.environ.get("TMPDIR", "/tmp")
        raise TokenizerError(
            f"cannot write a temporary file in {where}: {problem.strerror or problem}. It gets as large as the texts "
            "are: free space there, or name another directory with the environment variable TMPDIR."
        ) from problem
