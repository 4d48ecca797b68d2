"""Small tokenizers: one trained by us, and one of each kind that checkpoints come with."""

from collections.abc import Callable

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers

from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.pretokenize import KOREAN_PATTERN, split_to_bytes
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training import train_bpe

CORPUS = [
    "말모이는 말을 모으는 일이다. 나는 학교에 가고, 너는 학교에서 온다. 학교에 간다!",
    "한국어 토큰은 글자보다 크고 낱말보다 작다. ㅋㅋㅋ 정말? ㅠㅠ 2024년 12월 25일.",
    "Python은 프로그래밍 언어이고, it's a language that people don't dislike.\n\n## 제목\n- 하나\n- 둘",
] * 4
SPECIAL = ["<unk>", "<s>", "</s>"]


@pytest.fixture(scope="session")
def korean() -> Tokenizer:
    """What `train_bpe` makes of the corpus."""
    return train_bpe(CORPUS, vocab_size=400)


def _bpe() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A SentencePiece-like BPE: the vocabulary begins with `SPECIAL` and the 256 byte tokens."""
    trained = tokenizers.Tokenizer(models.BPE())
    trained.train_from_iterator(
        [word for text in CORPUS for word in text.replace(" ", " ▁").split(" ")],
        trainers.BpeTrainer(vocab_size=400, show_progress=False),
    )
    content = trained.get_vocab()
    tokens = [
        *SPECIAL,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *sorted(content, key=content.__getitem__),
    ]
    merges: list[tuple[str, str]] = []
    for token in sorted(content, key=content.__getitem__):
        merges += [
            (token[:i], token[i:]) for i in range(1, len(token)) if {token[:i], token[i:]} <= content.keys()
        ]
    return {token: token_id for token_id, token in enumerate(tokens)}, merges


def llama2() -> tokenizers.Tokenizer:
    vocab, merges = _bpe()
    made = tokenizers.Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens(SPECIAL)
    return made


def gemma() -> tokenizers.Tokenizer:
    vocab, merges = _bpe()
    made = tokenizers.Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    made.add_special_tokens(SPECIAL)
    made.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("   ", normalized=False)])
    return made


def llama3() -> tokenizers.Tokenizer:
    """Byte-level; special tokens beside the model's vocabulary, as all byte-level models have them."""
    trained = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
    trained.pre_tokenizer = split_to_bytes(KOREAN_PATTERN)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=350, initial_alphabet=alphabet, show_progress=False)
    )
    trained.post_processor = processors.ByteLevel(trim_offsets=True)
    trained.decoder = decoders.ByteLevel()
    trained.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>"])
    trained.add_tokens(["<think>", "말모이", "él"])
    trained.enable_truncation(8)
    trained.enable_padding(length=8)
    return trained


def byte_level_without_words() -> tokenizers.Tokenizer:
    """Bytes of whole texts, which are never cut: its merges go over spaces."""
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trained.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    )
    trained.decoder = decoders.ByteLevel()
    return trained


def t5() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(CORPUS, trainer)
    return made


def _wordpiece(pre_tokenizer: pre_tokenizers.PreTokenizer) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=False)
    made.pre_tokenizer = pre_tokenizer
    made.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    made.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=250, special_tokens=special, show_progress=False)
    )
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return made


def bert() -> tokenizers.Tokenizer:
    return _wordpiece(pre_tokenizers.BertPreTokenizer())


def wordpiece_of_words() -> tokenizers.Tokenizer:
    """A WordPiece that sees `[SEP]` as one word, which its vocabulary has."""
    return _wordpiece(pre_tokenizers.WhitespaceSplit())


def words() -> tokenizers.Tokenizer:
    vocab = {"[UNK]": 0, "[SEP]": 1} | {
        word: 2 + i for i, word in enumerate(sorted(set(" ".join(CORPUS).split())))
    }
    made = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["[UNK]", "[SEP]"])
    return made


IMPORTED: list[Callable[[], tokenizers.Tokenizer]] = [
    llama2, gemma, llama3, t5, bert, wordpiece_of_words, words,
]  # fmt: skip


@pytest.fixture(scope="session", params=IMPORTED, ids=lambda make: make.__name__)
def imported(request: pytest.FixtureRequest) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    """A tokenizer of another origin, as we load it and as the library has it."""
    theirs: tokenizers.Tokenizer = request.param()
    ours = Tokenizer(theirs.to_str())
    theirs.no_truncation()
    theirs.no_padding()
    return ours, theirs


@pytest.fixture(
    scope="session",
    params=[llama2, gemma, llama3, byte_level_without_words, t5, ByteTokenizer],
    ids=lambda make: make.__name__,
)
def growable(request: pytest.FixtureRequest) -> Tokenizer:
    """A tokenizer whose vocabulary can be expanded: BPE of characters and of bytes, Unigram, bytes alone."""
    made = request.param()
    return made if isinstance(made, Tokenizer) else Tokenizer(made.to_str())
