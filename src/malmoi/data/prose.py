"""Prose -> ids: a text, with the separator where its document begins and where it ends.

One rule for training from text (`samples.py`) and for token files (`encode_files.py`), so that both give the same
ids; its `Encoding` tells whether ids that were written once are still what it would give.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from malmoi.core.errors import ConfigError
from malmoi.data.documents import Text
from malmoi.data.token_manifest import Encoding
from malmoi.text.tokenizer import Tokenizer

_WHAT_MAKES_IDS = ("added_tokens", "normalizer", "pre_tokenizer", "model")
_NUM_NAMED = 8
"""How many special tokens an error names: Tekken's files have a thousand."""


@dataclass(frozen=True, kw_only=True)
class ProseEncoder:
    """The ids of texts between separators: "가나" whose ids are [7, 8] becomes [0, 7, 8, 0] with separator 0.

    A piece of a long document has the separator only where the document begins or ends with it.

    >>> from malmoi.testing.tokenizer import ByteTokenizer
    >>> prose = ProseEncoder(tokenizer=ByteTokenizer())
    >>> prose.encode([Text(text="A", where="a.txt#0"), Text(text="B", where="b.txt#0", is_end=False)])
    [[0, 68, 0], [0, 69]]
    """

    tokenizer: Tokenizer
    separator: str = "<|endoftext|>"

    @cached_property
    def separator_id(self) -> int:
        """The separator's id. Raises `ConfigError` if the tokenizer has no such token."""
        token_id = self.tokenizer.token_id(self.separator)
        if token_id is None:
            special = [*self.tokenizer.special_tokens]
            named = ", ".join(special[:_NUM_NAMED]) or "(it has none)"
            more = f" ... ({len(special):,} in all)" if len(special) > _NUM_NAMED else ""
            raise ConfigError(
                f"the document separator {self.separator!r} is not in the tokenizer's vocabulary. "
                f"Set separator (--separator) to one of its special tokens: {named}{more}."
            )
        return token_id

    @cached_property
    def encoding(self) -> Encoding:
        """What decides the ids: of the tokenizer's file all that `encode` reads, however it is laid out."""
        content = json.loads(self.tokenizer.backend.to_str())
        deciding = json.dumps({part: content[part] for part in _WHAT_MAKES_IDS}, sort_keys=True)
        return Encoding(
            tokenizer_sha256=hashlib.sha256(deciding.encode()).hexdigest(),
            vocab_size=self.tokenizer.vocab_size,
            separator_id=self.separator_id,
        )

    def encode(self, texts: Sequence[Text]) -> list[list[int]]:
        """The ids of each text, on several cores."""
        encoded = self.tokenizer.encode_batch([text.text for text in texts])
        for text, ids in zip(texts, encoded, strict=True):
            if text.is_start:
                ids.insert(0, self.separator_id)
            if text.is_end:
                ids.append(self.separator_id)
        return encoded
