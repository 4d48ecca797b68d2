"""The words that a readable model is given: a `Tokenizer` opened, and its text cut as the fast one cuts it.

    text -> added tokens found -> normalise -> pretokenise -> WORDS -> BPE | Unigram -> ids

Where a text is cut stays the library's work (pretokenize.py says how we ask it to); what happens inside of a word
is told in bpe.py and unigram.py. Read next: `malmoi.cli.tokenizer.explain`, which shows it.
"""

import json
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from tokenizers import PreTokenizedString, normalizers

from malmoi.core.errors import TokenizerError
from malmoi.text.plain import encode, for_plain_text
from malmoi.text.pretokenize import KOREAN_PATTERN, split_to_bytes
from malmoi.text.readable.bpe import BPE
from malmoi.text.readable.unigram import Unigram
from malmoi.text.tokenizer import Tokenizer

KINDS: dict[str, type[BPE] | type[Unigram]] = {"BPE": BPE, "Unigram": Unigram}


class Word(NamedTuple):
    """A word in the vocabulary's spelling (`ĠíķĻêµĲ`, `▁학교`); an added token is found whole and has an id at once."""

    text: str
    token_id: int | None = None


class ReadableTokenizer:
    """A `Tokenizer` told again, so that each step can be watched. Slow, and equal: the same ids for plain text.

    Attributes:
        model: what turns a word into ids.

    >>> from malmoi.text.training import train_bpe
    >>> told = ReadableTokenizer(train_bpe(["나는 학교에 간다. 너는 학교에 온다."] * 3, vocab_size=284))
    >>> told.encode("나는 학교에")
    [283, 271]

    Raises:
        TokenizerError: the model is of another kind (WordPiece, word level), or one that `BPE.from_file` refuses.
    """

    model: BPE | Unigram

    def __init__(self, tokenizer: Tokenizer) -> None:
        content = json.loads(tokenizer.backend.to_str())
        self._plain = for_plain_text(tokenizer.backend, content, tokenizer.special_tokens)
        added = tokenizer.backend.get_added_tokens_decoder()
        self._added = {token_id: token.content for token_id, token in added.items() if not token.special}
        model = json.loads(self._plain.to_str())["model"]
        if model["type"] not in KINDS:
            raise TokenizerError(
                f"the model is {model['type']}. Only {' and '.join(KINDS)} are told step by step."
            )
        self.model = KINDS[model["type"]].from_file(model)

    def words(self, text: str) -> list[Word]:
        """Return what the model is given of a plain text, one word after the other, added tokens between."""
        encoding = encode(self._plain, text)
        found = [
            (start, end, Word(text[start:end], token_id))
            for token_id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True)
            # The model may make an added token's id of other text: that of カ, of ｶ in NFKC.
            if token_id in self._added and self._added[token_id] in text[start:end]
        ]
        between = zip(
            [0, *(end for _, end, _ in found)], [*(start for start, _, _ in found), len(text)], strict=True
        )
        parts = PreTokenizedString(text)
        parts.split(lambda _, whole: [whole[start:end] for start, end in between if start < end])
        if (normalizer := self._plain.normalizer) is not None:
            parts.normalize(normalizer.normalize)
        if (pre_tokenizer := self._plain.pre_tokenizer) is not None:
            pre_tokenizer.pre_tokenize(parts)
        cut = [(start, end, Word(word)) for word, (start, end), _ in parts.get_splits("original", "char")]
        return [word for _, _, word in sorted([*found, *cut], key=lambda part: part[:2])]

    def encode(self, text: str) -> list[int]:
        """Return the ids of plain text, as `Tokenizer.encode` does."""
        ids: list[int] = []
        for word in self.words(text):
            ids += self.model.encode(word.text) if word.token_id is None else [word.token_id]
        return ids


def count_words(texts: Iterable[str], pattern: str = KOREAN_PATTERN) -> Counter[str]:
    """Return the words that `train_bpe` cuts `texts` into, one character a byte, and how often each occurs.

    >>> count_words(["it it's"])
    Counter({'it': 1, 'Ġit': 1, "'s": 1})
    """
    cut, normalizer = split_to_bytes(pattern), normalizers.NFC()
    return Counter(word for text in texts for word, _ in cut.pre_tokenize_str(normalizer.normalize_str(text)))
