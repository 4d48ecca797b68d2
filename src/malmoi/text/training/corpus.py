"""What an algorithm has to know of all texts before it begins: which characters they use, which words.

    texts, read once, one at a time -> counts | the texts again, from a temporary file, without what is too rare

Some algorithms give every character of the corpus a token of its own, and a large corpus has thousands that occur a
few times: they are counted first. Read next: bpe.py and unigram.py, which learn from `common_characters`.
"""

import json
import re
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

COVERAGE = 0.9995
"""The share of all characters whose own tokens a vocabulary has, as in SentencePiece for Korean; the rest are bytes."""

ASCII = ("\n", *map(chr, range(0x20, 0x7F)))
"""The line end and printable ASCII: in every alphabet, however rare they are in the corpus."""

MAX_WORDS = 2**22
"""So many different words are counted at a time; then the rarer half is forgotten."""


def read(texts: Iterable[str], *, show_progress: bool) -> Iterator[str]:
    """Give the texts in NFC, one at a time, with a count of them on standard error if wished."""
    number = 0
    for number, text in enumerate(texts, start=1):
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


def count_words(texts: Iterable[str]) -> Counter[str]:
    """Count what stands between spaces, in bounded memory (after Manku and Motwani 2002, "lossy counting").

    Whenever there are `MAX_WORDS` different ones, those at or below the median are forgotten. A word among the common
    ones is counted exactly unless it was rare at that moment.

    >>> count_words(["나는 간다", "나는 온다"])["나는"]
    2
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.split())
        if len(counts) > MAX_WORDS:
            median = sorted(counts.values())[len(counts) // 2]
            counts = Counter({word: count for word, count in counts.items() if count > median})
    return counts


@contextmanager
def common_characters(
    texts: Iterable[str], *, show_progress: bool
) -> Iterator[tuple[list[str], Iterator[str]]]:
    """Lend the characters that cover the texts, sorted, and the texts once more with a line end for every other one.

    The texts wait in a temporary file, which is as large as they are and gone with the block.

        with common_characters(texts, show_progress=False) as (characters, common_texts):
            ...
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        counts: Counter[str] = Counter()
        for text in read(texts, show_progress=show_progress):
            counts.update(text)
            file.write(json.dumps(text) + "\n")
        file.seek(0)
        characters = sorted({*ASCII, *covering(counts)})
        rare = re.compile(f"[^{re.escape(''.join(characters))}]")
        # A line end begins a new piece, so what stood around a rare character is not learned as neighbours.
        yield characters, (rare.sub("\n", json.loads(line)) for line in file)


def covering(counts: Counter[str]) -> list[str]:
    """The most frequent characters that together are `COVERAGE` of all. NUL is none: the library cuts words with it."""
    wanted, chosen, covered = COVERAGE * counts.total(), [], 0
    for character in by_frequency(counts):
        if covered >= wanted:
            break
        covered += counts[character]
        chosen.append(character)
    return [character for character in chosen if character != "\0"]
