"""Characters: 한 is one token, and so is each space. The other end from whole words.

A few thousand tokens spell all of today's Korean, nothing is unknown, and a text has as many tokens as characters.
Read next: jamo.py, one step further down.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from tokenizers import models, normalizers

from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training.assemble import BYTE_TOKENS, assemble, bytes_and_characters
from malmoi.text.training.corpus import ASCII, by_frequency, read
from malmoi.text.training.room import check_reached, check_room
from malmoi.text.training.special import SPECIAL_TOKENS


def train_characters(
    texts: Iterable[str],
    *,
    vocab_size: int,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    show_progress: bool = False,
) -> Tokenizer:
    """Make a vocabulary of the most frequent characters of `texts`, which are read once and one by one.

    Ids: the special tokens, the 256 bytes (`<0x00>` to `<0xFF>`), which spell every other character, printable ASCII,
    then the characters, the most frequent first. Every text comes back.

    Raises:
        TokenizerError: as `train_bpe` does: the vocabulary has no room, or the texts have too few characters for it.

    >>> tokenizer = train_characters(["나는 학교에 간다"], vocab_size=361)
    >>> [tokenizer.token_bytes(i).decode() for i in tokenizer.encode("나는 간다")]
    ['나', '는', ' ', '간', '다']
    """
    return train_units(
        texts,
        form="NFC",
        always=ASCII,
        vocab_size=vocab_size,
        special_tokens=special_tokens,
        show_progress=show_progress,
    )


def train_units(
    texts: Iterable[str],
    *,
    form: Literal["NFC", "NFD"],
    always: Sequence[str],
    vocab_size: int,
    special_tokens: Sequence[str],
    show_progress: bool,
) -> Tokenizer:
    """Make a vocabulary of the most frequent characters of the texts in `form`; those in `always` come first.

    As a model it is a BPE without merges, which is the library's one way to fall back to bytes.
    """
    fixed = [*special_tokens, *BYTE_TOKENS, *(unit for unit in always if unit not in special_tokens)]
    num_fixed = check_room(
        vocab_size,
        special_tokens,
        len(fixed) - len(special_tokens),
        f"256 bytes and {len(always)} characters",
    )
    counts: Counter[str] = Counter()
    for text in read(texts, show_progress=show_progress):
        counts.update(unicodedata.normalize(form, text))
    units = [*fixed, *(unit for unit in by_frequency(counts) if unit not in {*always, *special_tokens})]
    check_reached(len(units), vocab_size, num_fixed, "other characters")
    vocab = {unit: token_id for token_id, unit in enumerate(units[:vocab_size])}
    return assemble(
        models.BPE(vocab, [], byte_fallback=True),
        special_tokens=special_tokens,
        normalizer=normalizers.NFD() if form == "NFD" else normalizers.NFC(),
        decoder=bytes_and_characters(),
    )
