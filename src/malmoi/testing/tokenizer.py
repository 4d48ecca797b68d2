"""A tokenizer that needs no training: one id a byte, after the special tokens.

For tests and examples: a real `Tokenizer` (byte-level BPE without a single merge), so it can be saved,
loaded and streamed like any other, and its ids can be checked by hand.
"""

import json
from collections.abc import Sequence

from malmoi.text.tokenizer import Tokenizer

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


class ByteTokenizer(Tokenizer):
    """Byte b has the id `len(special_tokens) + b`; special tokens have the ids before.

    >>> ByteTokenizer().encode("A가")
    [68, 237, 179, 131]
    """

    def __init__(self, special_tokens: Sequence[str] = SPECIAL_TOKENS) -> None:
        vocabulary = {token: index for index, token in enumerate(special_tokens)}
        vocabulary |= {
            character: len(special_tokens) + byte for byte, character in enumerate(_byte_characters())
        }
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        byte_level = {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": False,
        }
        source = {
            "version": "1.0",
            "added_tokens": [
                {"id": vocabulary[token], "content": token, **flags} for token in special_tokens
            ],
            "pre_tokenizer": byte_level,
            "decoder": byte_level,
            "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
        }
        super().__init__(json.dumps(source))


def _byte_characters() -> list[str]:
    """The printable character that stands for each byte in a byte-level tokenizer.json (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]
