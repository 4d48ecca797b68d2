"""How a vocabulary spells a text: the words it cuts, and the tokens of a word with the bytes that they stand for.

    text -> normalise, cut -> word -> model -> SPELLED tokens -> hangul_pieces

A byte-level vocabulary spells bytes, and its tokens may end inside a character. One of characters writes a space as ▁
(SentencePiece's) or as it is (ours), and what it does not know as bytes or as one unknown token.
Read next: `hangul_pieces.py`.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from malmoi.text.tokenizer import Tokenizer
from malmoi.text.vocabulary.hangul_pieces import Spelled

_BYTE_TOKEN = re.compile("<0x([0-9A-F]{2})>")


class Spelling(ABC):
    """What a tokenizer does to a text before its ids, step by step."""

    is_byte_level: bool
    space: str  # as the vocabulary writes it

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.backend = tokenizer.backend

    def words(self, text: str) -> Iterable[str]:
        """The stretches that no token crosses, normalised and in the vocabulary's alphabet."""
        if self.backend.normalizer is not None:
            text = self.backend.normalizer.normalize_str(text)
        if self.backend.pre_tokenizer is None:
            return [text]
        return (word for word, _ in self.backend.pre_tokenizer.pre_tokenize_str(text))

    @abstractmethod
    def tokens(self, word: str) -> Iterator[Spelled]:
        """The tokens of one of these."""


class ByteSpelling(Spelling):
    """Of GPT-2, Llama 3, Qwen and Tekken: a character of the alphabet is a byte.

    >>> from malmoi.testing.tokenizer import ByteTokenizer
    >>> list(ByteSpelling(ByteTokenizer()).tokens("Ġx"))
    [('Ġ', b' '), ('x', b'x')]
    """

    is_byte_level = True
    space = "Ġ"

    def tokens(self, word: str) -> Iterator[Spelled]:
        """Each with its bytes."""
        for token in self.backend.model.tokenize(word):
            yield token.value, self.tokenizer.token_bytes(token.id)


class CharacterSpelling(Spelling):
    """Of SentencePiece, and whatever else spells characters.

    >>> from malmoi.text.training import train_characters
    >>> spelling = CharacterSpelling(train_characters(["to be"], vocab_size=355), unknown=None)
    >>> list(spelling.words("to be ▁")), list(spelling.tokens(" b"))
    (['to', ' be', ' ▁'], [(' ', b' '), ('b', b'b')])
    """

    is_byte_level = False

    def __init__(self, tokenizer: Tokenizer, *, unknown: str | None) -> None:
        super().__init__(tokenizer)
        self.unknown = unknown
        self.space = "▁" if any("▁" in word for word in super().words("a b")) else " "
        self._word = re.compile(f"{self.space}?[^{self.space}]+")

    def words(self, text: str) -> Iterable[str]:
        """Cut before each space too: such files often leave that to their merges, none of which crosses one."""
        return (part for word in super().words(text) for part in self._word.findall(word))

    def tokens(self, word: str) -> Iterator[Spelled]:
        """Each with its characters; one that stands for several unknown ones comes once for each."""
        spelled = word.encode()
        unknown_id = None if self.unknown is None else self.tokenizer.token_id(self.unknown)
        for token in self.backend.model.tokenize(word):
            if byte := _BYTE_TOKEN.fullmatch(token.value):
                yield token.value, bytes.fromhex(byte[1])
            elif token.id == unknown_id:
                for character in spelled[slice(*token.offsets)].decode():
                    yield str(self.unknown), character.encode()
            else:
                yield token.value, token.value.replace(self.space, " ").encode()
