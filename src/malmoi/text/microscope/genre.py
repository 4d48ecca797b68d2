"""A genre: a name and a sample of its texts, of a stated size, that all tokenizers are measured on.

    texts -> Sampler -> GENRE -> counts.py, borders.py, and the sentences that page.py shows

A sample does not depend on the order in which the texts come, so the same files give the same figures.
Read next: `counts.py`.
"""

import hashlib
import heapq
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from malmoi.text.hangul import num_syllables

KOREAN_SHARE = 0.1
"""From this share of syllables among its characters on, a genre has figures a syllable and counts as Korean."""


@dataclass(frozen=True)
class Genre:
    """The texts of one kind, such as reviews, in NFC.

    >>> reviews = Genre("reviews", ("재미있다 ㅋㅋ", "Good!"))
    >>> reviews.num_characters, reviews.num_syllables, reviews.num_eojeols
    (12, 4, 3)
    >>> reviews.is_korean
    True
    """

    name: str
    texts: tuple[str, ...]

    @cached_property
    def num_bytes(self) -> int:
        """Bytes of UTF-8."""
        return sum(len(text.encode()) for text in self.texts)

    @cached_property
    def num_characters(self) -> int:
        """Code points, spaces among them."""
        return sum(map(len, self.texts))

    @cached_property
    def num_syllables(self) -> int:
        """Composed syllables, 가 to 힣."""
        return sum(map(num_syllables, self.texts))

    @cached_property
    def num_eojeols(self) -> int:
        """What stands between spaces: an eojeol in Korean, a word in English."""
        return sum(len(text.split()) for text in self.texts)

    @property
    def is_korean(self) -> bool:
        return self.num_syllables >= KOREAN_SHARE * self.num_characters


class Sampler:
    """Takes texts one at a time and keeps those with the lowest hashes, as many as `max_bytes` asks for.

    `add` takes one text, or several that belong together, such as a sentence and its translation. Memory is bounded
    by the sample. It has at least `max_bytes` bytes unless there is less text, and at most one item more.

    >>> there, back = Sampler(max_bytes=6), Sampler(max_bytes=6)
    >>> for word, other in zip(("둘", "셋", "넷"), ("넷", "셋", "둘")):
    ...     there.add(word)
    ...     back.add(other)
    >>> there.genre("numbers") == back.genre("numbers"), there.genre("numbers").num_bytes
    (True, 6)
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._kept: list[tuple[int, tuple[str, ...]]] = []  # the highest hash first: a heap of negative ones

    def add(self, *texts: str) -> None:
        """Take an item; it is kept in NFC, or dropped."""
        item = tuple(unicodedata.normalize("NFC", text) for text in texts)
        digest = hashlib.blake2b("\0".join(item).encode(), digest_size=8).digest()
        rank = -int.from_bytes(digest)
        if self._num_bytes >= self._max_bytes and rank < self._kept[0][0]:
            return
        heapq.heappush(self._kept, (rank, item))
        self._num_bytes += _size(item)
        while self._num_bytes - _size(self._kept[0][1]) >= self._max_bytes:
            self._num_bytes -= _size(heapq.heappop(self._kept)[1])

    def items(self) -> list[tuple[str, ...]]:
        """Return what was kept, in the order of the hashes."""
        return [item for _, item in sorted(self._kept, reverse=True)]

    def genre(self, name: str) -> Genre:
        """Return the texts that were kept as a genre; of several that belong together, the first."""
        return Genre(name, tuple(first for first, *_ in self.items()))


def _size(item: Iterable[str]) -> int:
    return sum(len(text.encode()) for text in item)
