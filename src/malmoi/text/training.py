"""Learn a vocabulary from text: `texts -> train_bpe -> Tokenizer`.

Byte-level BPE: all 256 bytes are in the vocabulary, so every text has a spelling and no token is
"unknown". NFC is part of the saved file, so 한 typed on a Mac (ᄒ + ᅡ + ᆫ) and on Windows (한) get the
same ids. Read next: pretokenize.py (where words are cut), tokenizer.py (what the result can do).
"""

from collections.abc import Iterable, Sequence

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from malmoi.core.errors import TokenizerError
from malmoi.text.pretokenize import KOREAN_PATTERN, split_to_bytes
from malmoi.text.tokenizer import Tokenizer

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""End of a document, start of a chat turn, end of a chat turn (ChatML)."""

ENCODER_TOKENS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
"""What encoders need instead: padding, start of the input, end of a text, a hidden token (BERT)."""

TEXT_TO_TEXT_TOKENS = ("<pad>", "</s>", "<mask>", *(f"<extra_id_{number}>" for number in range(100)))
"""What encoder-decoders need: start of an answer and padding, end of a text, a hole (BART), numbered holes (T5)."""


def train_bpe(
    texts: Iterable[str],
    *,
    vocab_size: int,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    pattern: str = KOREAN_PATTERN,
    show_progress: bool = False,
) -> Tokenizer:
    """Train a BPE tokenizer (Sennrich et al. 2016, arXiv:1508.07909, section 3.2) on bytes, as GPT-2's is.

    Ids: the special tokens first (0, 1, 2, ...), then the 256 bytes, then the merges in the order learned, so
    a smaller vocabulary is the beginning of a larger one. `texts` is read once, one text at a time: memory
    grows with the number of different words, not with the text. The same texts give a byte-identical file.
    The first special token ends a document: the saved configuration calls it `bos`, `eos` and `pad`.
    `show_progress` draws the library's bars on standard error.

    Raises:
        TokenizerError: `vocab_size` has no room for the special tokens and the bytes, or `texts` has fewer
            pairs to merge than `vocab_size` asks for, or a special token is empty or named twice.

    >>> tokenizer = train_bpe(["나는 학교에 간다. 너는 학교에 온다."] * 3, vocab_size=280)
    >>> tokenizer.decode(tokenizer.encode("학교에 간다"))
    '학교에 간다'
    """
    if len(set(special_tokens)) < len(special_tokens) or "" in special_tokens:
        raise TokenizerError(
            f"special_tokens={list(special_tokens)} names one twice or is empty. Give each a name."
        )
    num_fixed = len(special_tokens) + 256
    if vocab_size < num_fixed:
        raise TokenizerError(
            f"vocab_size={vocab_size} has no room for {len(special_tokens)} special tokens and 256 bytes. "
            f"Use {num_fixed} or more."
        )
    model = tokenizers.Tokenizer(models.BPE())
    model.normalizer = normalizers.NFC()
    model.pre_tokenizer = split_to_bytes(pattern)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=show_progress,
    )
    model.train_from_iterator(texts, trainer)
    reached = model.get_vocab_size()
    if reached < vocab_size:
        raise TokenizerError(
            f"vocab_size={vocab_size}, but the text has only {reached - num_fixed} pairs to merge. "
            f"Use {reached} or fewer, or more text."
        )
    tokenizer = Tokenizer(model.to_str())
    if special_tokens:
        tokenizer.config |= dict.fromkeys(("bos_token", "eos_token", "pad_token"), special_tokens[0])
    return tokenizer


def train_bpe_for_encoders(
    texts: Iterable[str], *, vocab_size: int, show_progress: bool = False
) -> Tokenizer:
    """`train_bpe` with BERT's special tokens, whose file frames a text as `[CLS] text [SEP]`.

    >>> tokenizer = train_bpe_for_encoders(["나는 학교에 간다. 너는 학교에 온다."] * 3, vocab_size=284)
    >>> tokenizer.encode_framed("나는", "너는")
    ([1, 276, 283, 2, 277, 282, 2], [0, 0, 0, 0, 1, 1, 1])
    """
    plain = train_bpe(
        texts, vocab_size=vocab_size, special_tokens=ENCODER_TOKENS, show_progress=show_progress
    )
    framing = tokenizers.Tokenizer.from_str(plain.backend.to_str())
    framing.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=list(plain.special_tokens.items()),
    )
    tokenizer = Tokenizer(framing.to_str())
    names = ("pad_token", "cls_token", "sep_token", "mask_token")
    tokenizer.config |= dict(zip(names, ENCODER_TOKENS, strict=True))
    # Else transformers would not hand the second text's types to a model.
    tokenizer.config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    return tokenizer


def train_bpe_for_text_to_text(
    texts: Iterable[str], *, vocab_size: int, show_progress: bool = False
) -> Tokenizer:
    """`train_bpe` with the special tokens of T5 and BART, whose file ends a text: `text </s>`.

    >>> tokenizer = train_bpe_for_text_to_text(["나는 학교에 간다. 너는 학교에 온다."] * 3, vocab_size=383)
    >>> tokenizer.encode_framed("나는"), tokenizer.token_id("<extra_id_0>")
    (([375, 1], [0, 0]), 3)
    """
    plain = train_bpe(
        texts, vocab_size=vocab_size, special_tokens=TEXT_TO_TEXT_TOKENS, show_progress=show_progress
    )
    ending = tokenizers.Tokenizer.from_str(plain.backend.to_str())
    ending.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", plain.special_tokens["</s>"])]
    )
    tokenizer = Tokenizer(ending.to_str())
    tokenizer.config |= {"pad_token": "<pad>", "eos_token": "</s>", "mask_token": "<mask>"}
    return tokenizer
