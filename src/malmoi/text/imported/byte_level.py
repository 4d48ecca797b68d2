"""A byte-level BPE (GPT-2's kind) from tokens and their ranks: the common part of tiktoken.py and tekken.py.

Read next: ranks.py, which finds the merges.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from malmoi.core.errors import TokenizerError
from malmoi.text.decoding import byte_of_character
from malmoi.text.imported.content import Part, assemble, bpe, sequence, split
from malmoi.text.imported.ranks import merges_of

BYTE_LEVEL: Part = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
"""Each byte as one printable character, without a cut of its own."""

_MAX_TOKEN_BYTES = 2048  # time grows with the square of it
_CHARACTER_OF_BYTE = {byte: character for character, byte in byte_of_character().items()}


def spelled(token: bytes) -> str:
    """Return a token as a tokenizer.json writes it.

    >>> spelled(" é".encode())
    'ĠÃ©'
    """
    return token.decode("latin-1").translate(_CHARACTER_OF_BYTE)


def from_ranks(
    ranks: Mapping[bytes, int],
    *,
    pattern: str,
    special: Mapping[str, int],
    shift: int = 0,
    normalizers: Iterable[Part] = (),
) -> dict[str, Any]:
    """Return the tokenizer.json of a vocabulary in which a token's id is its rank + `shift`.

    `pattern` cuts a text into words; the control tokens in `special` may have any free ids.

    Raises:
        TokenizerError: a byte is missing, a token is too long, two share an id, or a control token is spelled like
            another token.
    """
    if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise TokenizerError(
            f"the byte 0x{missing[0]:02X} is no token, so some texts would have no spelling. Fetch the file again."
        )
    pairs, is_complete = merges_of(ranks)
    if (longest := max(map(len, ranks))) > _MAX_TOKEN_BYTES:
        raise TokenizerError(
            f"a token has {longest} bytes, more than {_MAX_TOKEN_BYTES}. Fetch the file again."
        )
    names = {token: spelled(token) for token in ranks}
    vocab = {names[token]: rank + shift for token, rank in ranks.items()}
    if clash := sorted(vocab.keys() & special.keys()):
        raise TokenizerError(
            f"{clash[0]!r} is both a control token and a piece of text. Give it another name."
        )
    vocab |= special
    if len(set(vocab.values())) < len(vocab):
        raise TokenizerError(
            "two tokens share an id. Check the ranks of the file and the ids of special tokens."
        )
    return assemble(
        # Without need the library would look up each word as a whole first, and control tokens are in the vocabulary.
        bpe(vocab, [(names[left], names[right]) for left, right in pairs], ignore_merges=not is_complete),
        normalizer=sequence("normalizers", list(normalizers)),
        pre_tokenizer=sequence("pretokenizers", [split(pattern), BYTE_LEVEL]),
        decoder=BYTE_LEVEL,
        special=special.items(),
    )
