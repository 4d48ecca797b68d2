"""How a vocabulary takes in new pieces: BPE by merges, Unigram by scores.

    base, texts -> count words -> learn -> pieces -> GROWTH -> tokenizer.json

Old ids stay: new ones come after the highest of all, that of an added token too, gaps and all. Read next: `expand.py`,
whose promises these are; `spelling.py`, how a base spells what is counted.
"""

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from malmoi.core.errors import TokenizerError
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.vocabulary.continuing import Continuation, Piece
from malmoi.text.vocabulary.hangul_pieces import hangul_words, has_hangul
from malmoi.text.vocabulary.spelling import ByteSpelling, CharacterSpelling, Spelling


class Growth(ABC):
    """A base that can take new pieces; `growth_of` chooses the kind.

    The order of `pieces` is that of their ids, so a smaller expansion is the beginning of a larger one.
    """

    def __init__(self, base: Tokenizer, content: dict[str, Any], spelling: Spelling) -> None:
        self.base = base
        self.content = content
        self.model: dict[str, Any] = content["model"]
        self.spelling = spelling
        self._added = {token["content"]: token["id"] for token in content["added_tokens"]}

    def continuation(self, texts: Iterable[str], *, across_spaces: bool = False) -> Continuation:
        """Feed the Hangul of a corpus, as this base spells it, to a training. Reads `texts` once.

        No word is joined to the next, unless `across_spaces` allows it wherever the base does not cut.

        Raises:
            TokenizerError: the corpus has no Hangul.
        """
        words = Counter(word for text in texts if has_hangul(text) for word in self.spelling.words(text))
        continuation = Continuation()
        is_empty = True
        for word, count in words.items():
            tokens = self.spelling.tokens(word)
            for stretch in hangul_words(
                tokens,
                is_byte_level=self.spelling.is_byte_level,
                space=self.spelling.space,
                across_spaces=across_spaces,
            ):
                continuation.add(stretch, count=count)
                is_empty = False
        if is_empty:
            raise TokenizerError("the corpus has no Hangul to learn from. Give Korean text.")
        return continuation

    def grown(self, pieces: Sequence[Piece], *, num_added: int) -> Tokenizer:
        """The base with `num_added` new tokens, or as many as `pieces` make: nothing of the base changes."""
        content = self.content | {"model": self.model | self._grown(pieces, num_added)}
        tokenizer = Tokenizer(json.dumps(content, ensure_ascii=False), self.base.config)
        assert {name: tokenizer.token_id(name) for name in self._added} == self._added
        return tokenizer

    @abstractmethod
    def _grown(self, pieces: Sequence[Piece], num_added: int) -> dict[str, Any]:
        """The entries of the model that change.

        The added tokens are in the vocabulary then: the library would number those that it lacks after its end.
        """


class BPE(Growth):
    """New merges come after the old ones.

    A later merge waits until no older one is left, so it sees exactly the base's tokens. Where the base has another way
    to the same string, the new merge is one more way to the token that is there.
    """

    def __init__(self, base: Tokenizer, content: dict[str, Any], spelling: Spelling) -> None:
        super().__init__(base, content, spelling)
        for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
            if self.model.get(key):
                raise TokenizerError(
                    f"the base's merges cannot be continued: its model has {key}={self.model[key]!r}. "
                    "Use a tokenizer without."
                )
        ids = [*(base.backend.get_vocab(with_added_tokens=False) | self._added).values()]
        if len(ids) > len({*ids}):
            shared = next(i for i, count in Counter(ids).items() if count > 1)
            raise TokenizerError(f"two tokens of the base have the id {shared}. Repair its tokenizer.json.")

    def _grown(self, pieces: Sequence[Piece], num_added: int) -> dict[str, Any]:
        vocab: dict[str, int] = self.model["vocab"] | self._added
        merges = [tuple(merge) for merge in self.model["merges"]]
        known = set(merges)
        free = iter(range(self.base.vocab_size, self.base.vocab_size + num_added))
        for piece in pieces:
            steps: list[tuple[str, ...]] = [*piece.merges()] or [(piece.text,)]
            for merge in steps:
                text = "".join(merge)
                if text not in vocab:
                    new_id = next(free, None)
                    if new_id is None:
                        return {"vocab": vocab, "merges": merges}
                    vocab[text] = new_id
                if len(merge) == 2 and merge not in known:
                    known.add(merge)
                    merges.append(merge)
        return {"vocab": vocab, "merges": merges}


class Unigram(Growth):
    """Pieces with scores, of which a text gets the likeliest sequence (Kudo 2018, arXiv:1804.10959).

    A word is never likelier than its rarest part: that part's score is the new piece's. As scores are logarithms below
    zero, one piece then always beats its parts. The lowest score stays the lowest, since the library measures by it
    what it does not know.
    """

    def _grown(self, pieces: Sequence[Piece], num_added: int) -> dict[str, Any]:
        vocab = [(str(piece), float(score)) for piece, score in self.model["vocab"]]
        beside = sorted((i, name) for name, i in self._added.items() if i >= len(vocab))
        vocab += [(name, 0.0) for _, name in beside]
        scores = dict(vocab)
        if len(scores) != len(vocab) or len(vocab) != self.base.vocab_size:
            raise TokenizerError(
                f"the base has {len(scores)} tokens and ids up to {self.base.vocab_size - 1}. In a Unigram file the "
                "place of a piece is its id, so new ids would collide with those after a gap. Use a file without gaps."
            )
        lowest = min(scores.values())
        for piece in pieces:
            if len(vocab) == self.base.vocab_size + num_added:
                break
            if piece.text not in scores:
                parts = self.base.backend.model.tokenize(piece.text)
                scores[piece.text] = min(scores.get(part.value, lowest) for part in parts)
                vocab.append((piece.text, scores[piece.text]))
        return {"vocab": vocab}


def growth_of(base: Tokenizer) -> Growth:
    """The kind of growth that fits a base.

    Raises:
        TokenizerError: the vocabulary is of a kind without merges or scores (WordPiece, whole words), or its merges
            cannot be continued, or as `Tokenizer.require_stated_ids` does.
    """
    base.require_stated_ids()
    content = json.loads(base.backend.to_str())
    model = content["model"]
    match model["type"], (content["decoder"] or {}).get("type"):
        case "BPE", "ByteLevel":
            return BPE(base, content, ByteSpelling(base))
        case "BPE", _:
            return BPE(base, content, CharacterSpelling(base, unknown=model["unk_token"]))
        case "Unigram", _:
            unknown = None if model["unk_id"] is None else model["vocab"][model["unk_id"]][0]
            return Unigram(base, content, CharacterSpelling(base, unknown=unknown))
        case kind, _:
            raise TokenizerError(
                f"a {kind} vocabulary has no merges to continue. Use a BPE or a Unigram tokenizer as the base."
            )
