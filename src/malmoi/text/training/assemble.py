"""A trained model -> a tokenizer.json -> `Tokenizer`: the parts that are the same for every algorithm.

    model (bpe.py, unigram.py, ...) + normaliser + cutting + decoder + special tokens -> TOKENIZER

Read next: ../decoding.py, which reads the decoder.
"""

from collections.abc import Sequence

import tokenizers
from tokenizers import decoders, normalizers
from tokenizers.decoders import Decoder
from tokenizers.models import Model
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer

from malmoi.text.tokenizer import Tokenizer

BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""SentencePiece's tokens for a character that the vocabulary does not have: its bytes."""


def bytes_and_characters() -> Decoder:
    """The decoder of a vocabulary of characters, or of pieces of text, that falls back to `BYTE_TOKENS`."""
    return decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])


def assemble(
    model: Model,
    *,
    special_tokens: Sequence[str],
    decoder: Decoder | None,
    pre_tokenizer: PreTokenizer | None = None,
    normalizer: Normalizer | None = None,
    unknown: str | None = None,
) -> Tokenizer:
    """Return the tokenizer of `model`; the normaliser is NFC if none is given.

    `unknown` is the token of what the vocabulary cannot spell; it is a special one too. The first special token ends
    a document: the saved configuration calls it `bos`, `eos` and `pad`.
    """
    made = tokenizers.Tokenizer(model)
    made.normalizer = normalizer or normalizers.NFC()
    if pre_tokenizer is not None:
        made.pre_tokenizer = pre_tokenizer
    if decoder is not None:
        made.decoder = decoder
    made.add_special_tokens([*special_tokens, *([unknown] if unknown is not None else [])])
    tokenizer = Tokenizer(made.to_str())
    if special_tokens:
        tokenizer.config |= dict.fromkeys(("bos_token", "eos_token", "pad_token"), special_tokens[0])
    if unknown is not None:
        tokenizer.config["unk_token"] = unknown
    return tokenizer
