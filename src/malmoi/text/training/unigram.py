"""Unigram: a vocabulary of pieces with probabilities; a text is cut into the most likely row of them.

    the characters and a million frequent strings -> drop those that the likelihood misses least -> `vocab_size` pieces

Where BPE merges by a fixed order, this looks at the whole word: T5 and XLM-R are cut so. Read next: ../readable (the
same in plain Python), bpe.py, which shares the cuts between words.
"""

import json
from collections.abc import Iterable, Iterator, Sequence

import tokenizers
from tokenizers import Regex, models, pre_tokenizers, trainers

from malmoi.text.pretokenize import KOREAN_PATTERN
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training.assemble import BYTE_TOKENS, assemble, bytes_and_characters
from malmoi.text.training.corpus import common_characters, read
from malmoi.text.training.room import check_reached, check_room
from malmoi.text.training.special import SPECIAL_TOKENS

UNKNOWN = "<unk>"
SCORE_DIGITS = 4
"""Decimals that are kept of a log-probability: the library adds in an order that differs from run to run."""


def train_unigram(
    texts: Iterable[str],
    *,
    vocab_size: int,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    show_progress: bool = False,
) -> Tokenizer:
    """Train a Unigram tokenizer (Kudo 2018, arXiv:1804.10959, section 3.2) on pieces of words.

    Ids: the special tokens, `<unk>` (which no text has), the 256 bytes that spell a character without a piece, then
    the pieces, the most likely first. *Our differences* from SentencePiece: words are cut by `KOREAN_PATTERN`, a space
    is a space, not `▁`, so every text comes back; scores are rounded, so that the same texts give the same file.

    The library needs several times as long as for a BPE: give it a sample.

    Raises:
        TokenizerError: as `train_bpe` does: the vocabulary has no room, or the texts have too few pieces for it.

    >>> tokenizer = train_unigram(["학교에 학교에서 학교는 나는 너는"] * 9, vocab_size=366)
    >>> [tokenizer.backend.id_to_token(i) for i in tokenizer.encode("학교에 나로")]
    ['학교에', ' ', '나', '<0xEB>', '<0xA1>', '<0x9C>']
    """
    control = [*special_tokens, UNKNOWN]
    pre_tokenizer = pre_tokenizers.Split(Regex(KOREAN_PATTERN), behavior="isolated")
    trained = tokenizers.Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizer
    with common_characters(read(texts, show_progress=show_progress)) as (characters, common_texts):
        num_others = 256 + len(characters)
        num_fixed = check_room(vocab_size, control, num_others, f"256 bytes and {len(characters)} characters")
        trainer = trainers.UnigramTrainer(
            vocab_size=vocab_size - len(control) - 256,
            initial_alphabet=characters,
            show_progress=show_progress,
        )
        trained.train_from_iterator(common_texts, trainer)
    pieces = [(piece, score) for piece, score in _pieces(trained) if piece not in control]
    check_reached(len(control) + 256 + len(pieces), vocab_size, num_fixed, "pieces longer than a character")
    vocab = [*((token, 0.0) for token in (*control, *BYTE_TOKENS)), *pieces]
    return assemble(
        models.Unigram(vocab, unk_id=len(special_tokens), byte_fallback=True),
        special_tokens=special_tokens,
        unknown=UNKNOWN,
        pre_tokenizer=pre_tokenizer,
        decoder=bytes_and_characters(),
    )


def _pieces(trained: tokenizers.Tokenizer) -> Iterator[tuple[str, float]]:
    """The pieces and their log-probabilities, the most likely first, the same in every run.

    The library gives a character that it keeps for completeness only the lowest score, plus 0.0001 for each that its
    hash table gave before. All of those get the lowest.
    """
    scores: dict[str, float] = dict(json.loads(trained.to_str())["model"]["vocab"])
    lowest = round(min(scores.values()), SCORE_DIGITS)
    spread = lowest + 0.0001 * sum(len(piece) == 1 for piece in scores)
    rounded = {
        piece: lowest if len(piece) == 1 and score <= spread else round(score, SCORE_DIGITS)
        for piece, score in scores.items()
    }
    yield from sorted(rounded.items(), key=lambda scored: (-scored[1], scored[0]))
