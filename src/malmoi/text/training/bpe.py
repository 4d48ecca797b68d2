"""Byte-pair encoding: begin with bytes or with characters, and merge the most frequent pair again and again.

    byte level        256 bytes, then merges: every text has a spelling (GPT-2, Llama 3, Qwen)
    character level   the characters of the corpus, then merges; a rare one is spelled by `<0xED>` (Llama 2, Gemma)

Bytes need no alphabet, but spend merges on putting 한 together, and a rare syllable stays in parts; characters
are whole from the start. Read next: ../pretokenize.py (where words are cut), morphemes.py, wordpiece.py.
"""

import json
from collections.abc import Callable, Iterable, Sequence

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from malmoi.text.pretokenize import KOREAN_PATTERN, split_to_bytes
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training.assemble import BYTE_TOKENS, assemble, bytes_and_characters
from malmoi.text.training.corpus import common_characters, common_words, read
from malmoi.text.training.room import check_reached, check_room
from malmoi.text.training.special import SPECIAL_TOKENS


def train_bpe(
    texts: Iterable[str],
    *,
    vocab_size: int,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    pattern: str = KOREAN_PATTERN,
    split: Callable[[Iterable[str]], Iterable[str | Sequence[str]]] = iter,
    show_progress: bool = False,
) -> Tokenizer:
    """Train a BPE tokenizer (Sennrich et al. 2016, arXiv:1508.07909, section 3.2) on bytes, as GPT-2's is.

    Ids: the special tokens first (0, 1, 2, ...), then the 256 bytes, then the merges in the order learned, so
    a smaller vocabulary is the beginning of a larger one. `texts` is read once, one text at a time; memory
    grows with the different words until those have `corpus.MAX_CHARACTERS`, and then no more: the rarer ones are
    left out. The same texts give a byte-identical file. `split` may give a text in parts: then no merge is learned
    across them. `show_progress` counts the texts on standard error and draws the library's bars there.

    Raises:
        TokenizerError: `vocab_size` has no room for the special tokens and the bytes, or `texts` has no text, or
            fewer pairs to merge than `vocab_size` asks for, or a special token is empty or named twice, or the
            temporary file in which the texts wait cannot be written.

    >>> tokenizer = train_bpe(["나는 학교에 간다. 너는 학교에 온다."] * 3, vocab_size=280)
    >>> tokenizer.decode(tokenizer.encode("학교에 간다"))
    '학교에 간다'
    """
    num_fixed = check_room(vocab_size, special_tokens, 256, "256 bytes")
    trained = tokenizers.Tokenizer(models.BPE())
    trained.normalizer = normalizers.NFC()
    trained.pre_tokenizer = split_to_bytes(pattern)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=show_progress,
    )
    with common_words(read(texts, show_progress=show_progress)) as common_texts:
        trained.train_from_iterator(split(common_texts), trainer)
    check_reached(trained.get_vocab_size(), vocab_size, num_fixed, "pairs to merge")
    return assemble(
        trained.model,
        special_tokens=special_tokens,
        pre_tokenizer=split_to_bytes(pattern),
        decoder=decoders.ByteLevel(),
    )


def train_character_bpe(
    texts: Iterable[str],
    *,
    vocab_size: int,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    show_progress: bool = False,
) -> Tokenizer:
    """Train a BPE tokenizer on characters, in which a rare one is spelled by its bytes.

    Ids: the special tokens, the 256 bytes, the characters in Unicode's order (those that are `COVERAGE` of the text,
    and printable ASCII), the merges. Otherwise as `train_bpe`. *Our difference* from SentencePiece: a space is a
    space, not `▁`, so every text comes back.

    >>> tokenizer = train_character_bpe(["나는 학교에 간다. 너는 학교에 온다."] * 3, vocab_size=370)
    >>> [tokenizer.token_bytes(i).decode("utf-8", "replace") for i in tokenizer.encode("나는 학교에 꿻")]
    ['나', '는', ' 학교에', ' ', '�', '�', '�']
    """
    pre_tokenizer = pre_tokenizers.Split(Regex(KOREAN_PATTERN), behavior="isolated")
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizer
    with common_characters(read(texts, show_progress=show_progress)) as (characters, common_texts):
        num_others = len({*BYTE_TOKENS, *characters}.difference(special_tokens))
        num_fixed = check_room(
            vocab_size, special_tokens, num_others, f"256 bytes and {num_others - 256} characters"
        )
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[*special_tokens, *BYTE_TOKENS],
            initial_alphabet=characters,
            show_progress=show_progress,
        )
        trained.train_from_iterator(common_texts, trainer)
    check_reached(trained.get_vocab_size(), vocab_size, num_fixed, "pairs to merge")
    learned = json.loads(trained.to_str())["model"]
    merges = [(left, right) for left, right in learned["merges"]]
    return assemble(
        models.BPE(learned["vocab"], merges, byte_fallback=True),
        special_tokens=special_tokens,
        pre_tokenizer=pre_tokenizer,
        decoder=bytes_and_characters(),
    )
