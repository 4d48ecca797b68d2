"""`TextEncoder`: texts in, vectors or labels out. What `LLM` is to decoders, to BERT and its kin.

    texts -> encode_framed -> packed rows -> Encoder -> pooling -> vectors
                                                     -> head    -> labels

Texts of any lengths lie end to end in one row, so nothing is padded. Read next: `pooling.py`, `nn/heads.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from malmoi.core.errors import ConfigError, RequestError
from malmoi.llm.pooling import Pooling, read_pooling
from malmoi.models import load_model, require_kind
from malmoi.models.bert_shape import BertShape
from malmoi.nn.context import Context
from malmoi.nn.heads import first_of_each
from malmoi.nn.stack import Encoder
from malmoi.text.tokenizer import Tokenizer
from malmoi.weights.hub import resolve

TOKENS_PER_FORWARD = 8192  # bounds the memory, whatever the number of texts

Framed = tuple[list[int], list[int]]
"""A text's ids, and for each which of two texts it is of."""
Read = Callable[[Tensor, Sequence[int]], Tensor]
"""From the states of texts end to end, and their lengths, to one row a text."""


@dataclass(frozen=True)
class Classification:
    """What a head says of a text.

    Attributes:
        scores: by label, its probability; of a model of scores (regression), the score itself.

    >>> Classification({"부정": 0.25, "긍정": 0.75}).label
    '긍정'
    """

    scores: Mapping[str, float]

    @property
    def label(self) -> str:
        """The label with the highest score."""
        return max(self.scores, key=lambda label: self.scores[label])

    @property
    def score(self) -> float:
        """That of `label`."""
        return self.scores[self.label]


class TextEncoder:
    """An encoder with its tokenizer.

    Args:
        model: a BERT or RoBERTa.
        tokenizer: the one that it was trained with.
        pooling: how a text's states become one vector.

    >>> encoder = malmoi.TextEncoder.load("out/classify/model")          # doctest: +SKIP
    >>> encoder.classify(["정말 재밌게 봤어요", "돈이 아깝다"])[0].label       # doctest: +SKIP
    '긍정'
    """

    def __init__(self, model: Encoder, tokenizer: Tokenizer, *, pooling: Pooling | None = None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.pooling = pooling or Pooling()
        limit = self.pooling.max_tokens
        self.max_tokens = model.max_positions if limit is None else min(limit, model.max_positions)

    @classmethod
    def load(cls, path_or_hub_id: str | Path, *, dtype: torch.dtype = torch.float32) -> "TextEncoder":
        """Load a model directory or a hub id, with the pooling that sentence-transformers' files say, if it has them.

        Raises CheckpointError, ConfigError, TokenizerError or HubError, each saying what to do.
        """
        directory = resolve(path_or_hub_id)
        model = require_kind(load_model(directory, dtype=dtype), Encoder, for_what="a text encoder")
        return cls(model, Tokenizer.load(directory), pooling=read_pooling(directory))

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "B D"]:
        """One vector a text, in fp32 and in their order; the nearer in meaning, the nearer their cosine is to 1.

        Raises RequestError for a text that is longer than the model can read: nothing is cut off.
        """
        vectors = self._each(texts, self.pooling)
        return torch.cat(vectors) if vectors else torch.zeros(0, self.model.config.hidden_size)

    def classify(self, texts: Sequence[str | tuple[str, str]]) -> list[Classification]:
        """What the model's head says of each text or pair of texts, in their order.

        Raises ConfigError for a model without a classifier, RequestError as `embed` does.
        """
        config, head = self.model.config, self.model.head
        if not isinstance(config, BertShape) or config.head != "sequence" or head is None:
            raise ConfigError(
                "this model has no classifier of texts. Load a ...ForSequenceClassification, or make one: "
                "malmoi train classify."
            )

        def scores(hidden: Tensor, lengths: Sequence[int]) -> Tensor:
            # The head reads a text's first token and no other.
            logits: Tensor = head(first_of_each(hidden, lengths)[:, None], None)
            return _scores(logits.float(), config.problem_type)

        return [
            Classification(dict(zip(config.labels, row, strict=True)))
            for part in self._each(texts, scores)
            for row in part.tolist()
        ]

    def _each(self, texts: Sequence[str | tuple[str, str]], read: Read) -> list[Tensor]:
        """What `read` makes of the states of the texts, of as many at a time as fit into one forward."""
        framed = [self._framed(number, text) for number, text in enumerate(texts)]
        with torch.inference_mode():
            return [read(self._states(pack), [len(ids) for ids, _ in pack]) for pack in _packs(framed)]

    def _states(self, pack: Sequence[Framed]) -> Float[Tensor, "1 T D"]:
        device = self.model.device
        lengths = [len(ids) for ids, _ in pack]
        context = Context.packed(lengths, specs=self.model.cache_specs(), device=device)
        if self.model.config.num_types > 1:  # RoBERTa knows one type, whatever the tokenizer says
            context = replace(context, token_types=_row(types for _, types in pack).to(device))
        return self.model.hidden(_row(ids for ids, _ in pack).to(device), context)

    def _framed(self, number: int, text: str | tuple[str, str]) -> Framed:
        ids, types = self.tokenizer.encode_framed(*([text] if isinstance(text, str) else text))
        if not 0 < len(ids) <= self.max_tokens:
            raise RequestError(
                f"text {number} has {len(ids)} tokens, but the model reads 1 to {self.max_tokens}. "
                f"{'Shorten it or cut it into several' if ids else 'Give it some text'}."
            )
        return ids, types


def cosines(vectors: Float[Tensor, "B D"]) -> Float[Tensor, "B B"]:
    """How alike each is to each: 1 for the same direction, 0 for a right angle.

    >>> cosines(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    tensor([[1.0000, 0.7071],
            [0.7071, 1.0000]])
    """
    unit = torch.nn.functional.normalize(vectors, dim=-1)
    return unit @ unit.T


def _scores(logits: Float[Tensor, "B labels"], problem_type: str) -> Float[Tensor, "B labels"]:
    match problem_type:
        case "single_label_classification":
            return logits.softmax(dim=-1)
        case "multi_label_classification":
            return logits.sigmoid()
        case _:  # a score is what it is
            return logits


def _packs(framed: Iterable[Framed]) -> Iterator[list[Framed]]:
    """Texts in their order, as many together as have room."""
    pack: list[Framed] = []
    room = TOKENS_PER_FORWARD
    for one in framed:
        if pack and len(one[0]) > room:
            yield pack
            pack, room = [], TOKENS_PER_FORWARD
        pack.append(one)
        room -= len(one[0])
    if pack:
        yield pack


def _row(parts: Iterable[list[int]]) -> Int[Tensor, "1 T"]:
    return torch.tensor([[number for part in parts for number in part]])
