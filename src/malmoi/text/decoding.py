"""What bytes a token stands for, read from the decoder of a tokenizer.json.

Four spellings are in use, and each turns tokens into text one by one, which is what makes streaming cheap:

    byte-level (GPT-2, Llama 3, Qwen)    "Ġí"           one character a byte, in GPT-2's alphabet
    SentencePiece (Llama 2, Gemma, T5)   "▁한" "<0xED>"  ▁ is a space; bytes where no token fits
    WordPiece (BERT)                     "##국"          a space before each token without ##
    none                                 "한국"          a space before each token

Only the first token of a text is special: it may lose the space that it has elsewhere.
Read next: tokenizer.py and stream.py, which join the pieces.
"""

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Mapping
from typing import Any

import tokenizers

from malmoi.core.errors import TokenizerError

_TOKEN_BY_TOKEN = {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace", "WordPiece"}
_BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")
_PROBE = "a"
_CONTINUING = bytes(range(0x80, 0xC0))


def byte_of_character() -> dict[str, int]:
    """GPT-2's alphabet: a printable Latin-1 byte is itself, the others follow in order from U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + i): byte for i, byte in enumerate(moved)}


class Pieces:
    """The bytes that an id adds to a text: `first(id)` at its start, `rest(id)` anywhere after.

    Each is found once and remembered, so that a text costs one dictionary look-up a token.

    Raises:
        TokenizerError: the decoder is of a kind whose tokens depend on their neighbours, or an added token has the id
            of other bytes.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, decoder: dict[str, Any] | None) -> None:
        self._tokenizer = tokenizer
        steps = _steps(decoder)
        self._alphabet = byte_of_character() if steps == ["ByteLevel"] else None
        self._has_byte_tokens = "ByteFallback" in steps
        self._added = tokenizer.get_added_tokens_decoder()
        if self._alphabet is not None:
            _refuse_two_meanings(tokenizer, self._added, self._alphabet)
        self._first: dict[int, bytes] = {}
        self._rest: dict[int, bytes] = {}

    def first(self, token_id: int) -> bytes:
        """Return the bytes of a token that begins a text."""
        if token_id not in self._first:
            self._first[token_id] = self._find(token_id, before=[])
        return self._first[token_id]

    def rest(self, token_id: int) -> bytes:
        """Return the bytes of a token that has others before it."""
        if token_id not in self._rest:
            self._rest[token_id] = self._find(token_id, before=[_PROBE])
        return self._rest[token_id]

    def _find(self, token_id: int, *, before: list[str]) -> bytes:
        token = self._tokenizer.id_to_token(token_id)
        if token is None:
            return b""
        if self._alphabet is not None:
            if token_id in self._added or not self._alphabet.keys() >= set(token):
                return token.encode()  # it stands for itself
            return bytes(self._alphabet[character] for character in token)
        if self._has_byte_tokens and (byte := _BYTE_TOKEN.fullmatch(token)) and int(byte[1], 16) >= 0x80:
            return bytes.fromhex(byte[1])
        # What does the library's own decoder add for this token after a probe?
        return self._join([*before, token])[len(self._join(before)) :].encode()

    def _join(self, tokens: list[str]) -> str:
        decoder = self._tokenizer.decoder
        return " ".join(tokens) if decoder is None else str(decoder.decode(tokens))


def _steps(decoder: dict[str, Any] | None) -> list[str]:
    """Name the steps of a decoder; refuse one that cannot be taken token by token."""
    if decoder is None:
        return []
    steps = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    kinds = [str(step["type"]) for step in steps]
    strips = [(step["start"], step["stop"]) for step in steps if step["type"] == "Strip"]
    if kinds == ["ByteLevel"] or (_TOKEN_BY_TOKEN.issuperset(kinds) and {(0, 0), (1, 0)}.issuperset(strips)):
        return kinds
    raise TokenizerError(
        f"the decoder {json.dumps(decoder, ensure_ascii=False)} does not work token by token. Supported: "
        f"ByteLevel alone, or a sequence of {', '.join(sorted(_TOKEN_BY_TOKEN))} that strips one character."
    )


def _refuse_two_meanings(
    tokenizer: tokenizers.Tokenizer, added: Mapping[int, tokenizers.AddedToken], alphabet: Mapping[str, int]
) -> None:
    """Refuse an added é where the vocabulary has an é: that one is the byte 0xE9, with which 退 begins.

    The library gives the added token the id that it finds in the vocabulary, and of an id alone nobody can tell which
    of the two was meant. Bytes that no text has are no second meaning (DeepSeek Coder adds ü, 0xFC).
    """
    for token_id, token in sorted(added.items()):
        name = token.content
        if not alphabet.keys() >= set(name) or tokenizer.model.token_to_id(name) != token_id:
            continue
        spelled = bytes(alphabet[character] for character in name)
        if spelled == name.encode() or not _is_of_a_text(spelled):
            continue
        if [made.id for made in tokenizer.model.tokenize(name)] == [token_id]:
            raise TokenizerError(
                f"the added token {name!r} and the bytes {spelled.hex(' ')} of other texts share the id {token_id}, so "
                f"neither can be told from the other. Take {name!r} out of added_tokens: the vocabulary spells it as "
                f"{name.encode().hex(' ')}."
            )


def _is_of_a_text(piece: bytes) -> bool:
    """Whether some text in UTF-8 has these bytes, which may begin and end inside of a character."""
    rest = piece.lstrip(_CONTINUING)
    try:
        getincrementaldecoder("utf-8")().decode(rest)
    except UnicodeDecodeError:
        return False
    return len(piece) - len(rest) <= 3
