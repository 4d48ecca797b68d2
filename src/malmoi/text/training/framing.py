"""What a model wants around a text: `[CLS] text [SEP]` of an encoder, `text </s>` of a T5.

A tokenizer of any algorithm, trained with the special tokens that the frame needs, gets it here. `encode` adds
nothing all the same; `encode_framed` does. Read next: ../tokenizer.py.
"""

from collections.abc import Iterable

import tokenizers
from tokenizers import processors

from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training.bpe import train_bpe
from malmoi.text.training.special import ENCODER_TOKENS, TEXT_TO_TEXT_TOKENS


def frame_for_encoders(plain: Tokenizer) -> Tokenizer:
    """Return `plain`, which has `ENCODER_TOKENS`, with a file that frames a text as `[CLS] text [SEP]`."""
    tokenizer = _framed(plain, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", around=ENCODER_TOKENS)
    names = ("pad_token", "cls_token", "sep_token", "mask_token")
    tokenizer.config |= dict(zip(names, ENCODER_TOKENS, strict=True))
    # Else transformers would not hand the second text's types to a model.
    tokenizer.config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    return tokenizer


def frame_for_text_to_text(plain: Tokenizer) -> Tokenizer:
    """Return `plain`, which has `TEXT_TO_TEXT_TOKENS`, with a file that ends a text: `text </s>`."""
    tokenizer = _framed(plain, "$A </s>", "$A </s> $B </s>", around=("</s>",))
    tokenizer.config |= {"pad_token": "<pad>", "eos_token": "</s>", "mask_token": "<mask>"}
    return tokenizer


def train_bpe_for_encoders(
    texts: Iterable[str], *, vocab_size: int, show_progress: bool = False
) -> Tokenizer:
    """`train_bpe` with BERT's special tokens, whose file frames a text as `[CLS] text [SEP]`.

    >>> tokenizer = train_bpe_for_encoders(["나는 학교에 간다. 너는 학교에 온다."] * 3, vocab_size=284)
    >>> tokenizer.encode_framed("나는", "너는")
    ([1, 276, 283, 2, 277, 282, 2], [0, 0, 0, 0, 1, 1, 1])
    """
    return frame_for_encoders(
        train_bpe(texts, vocab_size=vocab_size, special_tokens=ENCODER_TOKENS, show_progress=show_progress)
    )


def train_bpe_for_text_to_text(
    texts: Iterable[str], *, vocab_size: int, show_progress: bool = False
) -> Tokenizer:
    """`train_bpe` with the special tokens of T5 and BART, whose file ends a text: `text </s>`.

    >>> tokenizer = train_bpe_for_text_to_text(["나는 학교에 간다. 너는 학교에 온다."] * 3, vocab_size=383)
    >>> tokenizer.encode_framed("나는"), tokenizer.token_id("<extra_id_0>")
    (([375, 382, 1], [0, 0, 0]), 3)
    """
    return frame_for_text_to_text(
        train_bpe(
            texts, vocab_size=vocab_size, special_tokens=TEXT_TO_TEXT_TOKENS, show_progress=show_progress
        )
    )


def _framed(plain: Tokenizer, single: str, pair: str, *, around: tuple[str, ...]) -> Tokenizer:
    framing = tokenizers.Tokenizer.from_str(plain.backend.to_str())
    framing.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[(token, plain.special_tokens[token]) for token in around]
    )
    # The first special token, padding, ends no document here.
    ends = ("bos_token", "eos_token", "pad_token")
    return Tokenizer(
        framing.to_str(), {name: value for name, value in plain.config.items() if name not in ends}
    )
