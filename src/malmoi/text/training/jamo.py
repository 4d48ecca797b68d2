"""Jamo: a syllable is its letters, 한 = ᄒ + ᅡ + ᆫ, and 67 of them spell all 11,172.

The file's normaliser is NFD, Unicode's own way to take syllables apart, and what it decodes is put together again
(../composition.py): the text comes back in NFC, as it does from every tokenizer that we train. Old Hangul, which has
no composed form, is spelled in the same letters. Read next: ../hangul.py.
"""

from collections.abc import Iterable, Sequence

from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training.characters import train_units
from malmoi.text.training.corpus import ASCII
from malmoi.text.training.special import SPECIAL_TOKENS

MODERN_JAMO = tuple(
    chr(first + index)
    for first, number in ((0x1100, 19), (0x1161, 21), (0x11A8, 27))
    for index in range(number)
)
"""The 19 leading consonants, 21 vowels and 27 trailing consonants of today's Korean."""

LONE_LETTERS = tuple(map(chr, range(0x3131, 0x3164)))
"""The 51 letters of today's Korean that stand alone: ㅋㅋ, ㅠㅠ."""


def train_jamo(
    texts: Iterable[str],
    *,
    vocab_size: int,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    show_progress: bool = False,
) -> Tokenizer:
    """Make a vocabulary of jamo and of the most frequent other characters of `texts`, read once and one by one.

    Ids: the special tokens, the 256 bytes, the 67 modern jamo, the 51 letters that stand alone, printable ASCII, then
    what else the texts have, the most frequent first. Every text comes back, composed. The library by itself gives the
    same text uncomposed.

    Raises:
        TokenizerError: as `train_bpe` does: the vocabulary has no room, or the texts have too few characters for it.

    >>> tokenizer = train_jamo(["한글"], vocab_size=473)
    >>> len(tokenizer.encode("한글")), tokenizer.decode(tokenizer.encode("한글"))
    (6, '한글')
    """
    return train_units(
        texts,
        form="NFD",
        always=[*MODERN_JAMO, *LONE_LETTERS, *ASCII],
        vocab_size=vocab_size,
        special_tokens=special_tokens,
        show_progress=show_progress,
    )
