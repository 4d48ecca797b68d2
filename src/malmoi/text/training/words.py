"""Whole words: what stands between two spaces is one token, or unknown.

The oldest way, and the reason for all others: a Korean noun and its particles make an eojeol, of which there is no
end. Of a news text, 54 % are `<unk>` to 8,192 words and 28 % to 131,072 (docs/tokenizers.md).
Read next: wordpiece.py, which takes such words apart.
"""

from collections.abc import Iterable, Sequence

from tokenizers import models, pre_tokenizers

from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training.assemble import assemble
from malmoi.text.training.corpus import CommonWords, by_frequency, read
from malmoi.text.training.room import check_reached, check_room
from malmoi.text.training.special import SPECIAL_TOKENS

UNKNOWN = "<unk>"


def train_words(
    texts: Iterable[str],
    *,
    vocab_size: int,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    show_progress: bool = False,
) -> Tokenizer:
    """Make a vocabulary of the most frequent words of `texts`, which are read once and one by one.

    Ids: the special tokens, `<unk>`, then the words, the most frequent first. The text comes back with single spaces,
    and an unknown word does not. Memory: different words with `corpus.MAX_CHARACTERS` together at most.

    Raises:
        TokenizerError: as `train_bpe` does: the vocabulary has no room, or the texts have too few words for it.

    >>> tokenizer = train_words(["나는 학교에 간다", "나는 간다"], vocab_size=7)
    >>> tokenizer.decode(tokenizer.encode("나는 집에 간다"))
    '나는 <unk> 간다'
    """
    control = [*special_tokens, UNKNOWN]
    num_fixed = check_room(vocab_size, control, 1, "a word")
    common = CommonWords()
    for text in read(texts, show_progress=show_progress):
        common.add(text)
    words = [word for word in by_frequency(common.counts) if word not in control]
    check_reached(len(control) + len(words), vocab_size, num_fixed - 1, "different words")
    vocab = [*control, *words][:vocab_size]
    return assemble(
        models.WordLevel({word: token_id for token_id, word in enumerate(vocab)}, unk_token=UNKNOWN),
        special_tokens=special_tokens,
        unknown=UNKNOWN,
        pre_tokenizer=pre_tokenizers.WhitespaceSplit(),
        decoder=None,  # the library's own way: a space between two tokens
    )
