"""`TextEncoder`: texts in, vectors or labels out. What `LLM` is to decoders, to BERT and its kin.

    texts -> encode_framed -> PoolRequest -> PoolEngine -> pooling -> vectors
                                                        -> head    -> labels

Texts of any lengths lie end to end in one row, so nothing is padded. Read next: `engine/pool_engine.py`, which puts
them there; `pooling.py`, `nn/heads.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from malmoi.core.errors import ConfigError, RequestError
from malmoi.engine.pool_engine import PoolEngine
from malmoi.engine.pool_request import PoolRequest, Read
from malmoi.llm.pooling import Pooling, read_pooling
from malmoi.models import load_model, require_kind
from malmoi.models.bert_shape import BertShape
from malmoi.models.checkpoint import Dtype
from malmoi.nn.heads import first_of_each
from malmoi.nn.stack import Encoder
from malmoi.text.tokenizer import Tokenizer
from malmoi.weights.hub import resolve

Text = str | tuple[str, str]
"""One, or two that are read together."""


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
    """An encoder with its tokenizer, and the engine that runs it. One thread at a time.

    Many callers at once: `embedding_request` and `classification_request` are for an `AsyncPoolEngine` over `engine`,
    which reads together whatever has come.

    Args:
        model: a BERT or RoBERTa.
        tokenizer: the one that it was trained with.
        pooling: how a text's states become one vector.
        tokens_per_step: the most tokens that the model sees at once, as `PoolEngine` has it.

    >>> encoder = malmoi.TextEncoder.load("out/classify/model")          # doctest: +SKIP
    >>> encoder.classify(["정말 재밌게 봤어요", "돈이 아깝다"])[0].label       # doctest: +SKIP
    '긍정'
    """

    def __init__(
        self,
        model: Encoder,
        tokenizer: Tokenizer,
        *,
        pooling: Pooling | None = None,
        tokens_per_step: int | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.pooling = pooling or Pooling()
        self.engine = PoolEngine(model, tokens_per_step=tokens_per_step)
        self.max_tokens = min(
            length
            for length in (self.pooling.max_tokens, model.max_positions, self.engine.tokens_per_step)
            if length is not None
        )

    @classmethod
    def load(cls, path_or_hub_id: str | Path, *, dtype: Dtype = torch.float32) -> "TextEncoder":
        """Load a model directory or a hub id, with the pooling that sentence-transformers' files say, if it has them.

        Raises CheckpointError, ConfigError, TokenizerError or HubError, each saying what to do.
        """
        directory = resolve(path_or_hub_id)
        model = require_kind(load_model(directory, dtype=dtype), Encoder, for_what="a text encoder")
        return cls(model, Tokenizer.load(directory), pooling=read_pooling(directory))

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "B D"]:
        """One vector a text, in fp32 and in their order; the nearer in meaning, the nearer their cosine is to 1.

        Raises RequestError for a text that is longer than the model can read, since nothing is cut off, and for one of
        which it makes numbers that are not finite.
        """
        vectors = self._each(texts, self.pooling)
        return torch.stack(vectors) if vectors else torch.zeros(0, self.model.config.hidden_size)

    def classify(self, texts: Sequence[Text]) -> list[Classification]:
        """What the model's head says of each text or pair of texts, in their order.

        Raises ConfigError for a model without a classifier, RequestError as `embed` does.
        """
        self._require_classifier()
        scores = self._each(texts, self._scores)
        return list(map(self._classification, torch.stack(scores).tolist())) if scores else []

    def embedding_request(self, text: str | list[int], *, priority: int = 0) -> PoolRequest:
        """For an engine: what `embed` asks for one text, or for ids as they are. Its result is the vector.

        Raises as `embed` does.
        """
        return self._request("the text", text, self.pooling, priority=priority)

    def classification_request(self, text: Text, *, priority: int = 0) -> PoolRequest:
        """For an engine: what `classify` asks for one text; `classification` reads its result. Raises as that does."""
        self._require_classifier()
        return self._request("the text", text, self._scores, priority=priority)

    def classification(self, scores: Float[Tensor, " labels"]) -> Classification:
        """The labels to what a `classification_request` has brought."""
        return self._classification(scores.tolist())

    def _classification(self, scores: Sequence[float]) -> Classification:
        return Classification(dict(zip(self.model.config.labels, scores, strict=True)))

    def _each(self, texts: Sequence[Text], read: Read) -> list[Tensor]:
        return self.engine.pool(
            [self._request(f"text {number}", text, read) for number, text in enumerate(texts)]
        )

    def _request(self, which: str, text: Text | list[int], read: Read, *, priority: int = 0) -> PoolRequest:
        ids, types = self._ids(text)
        if not 0 < len(ids) <= self.max_tokens:
            raise RequestError(
                f"{which} has {len(ids)} tokens, but the model reads 1 to {self.max_tokens}. "
                f"{'Shorten it or cut it into several' if ids else 'Give it some text'}."
            )
        has_types = self.engine.num_types > 1  # RoBERTa knows one type, whatever the tokenizer says
        return PoolRequest(tokens=ids, read=read, token_types=types if has_types else None, priority=priority)

    def _ids(self, text: Text | list[int]) -> tuple[list[int], list[int] | None]:
        """The ids, and of which part each is; None: all of the first."""
        match text:
            case list():
                return text, None
            case str():
                return self.tokenizer.encode_framed(text)
            case one, other:
                return self.tokenizer.encode_framed(one, other)

    @property
    def has_classifier(self) -> bool:
        """Whether the model has a head that says something of a whole text."""
        config = self.model.config
        return isinstance(config, BertShape) and config.head == "sequence" and self.model.head is not None

    def _require_classifier(self) -> None:
        if not self.has_classifier:
            raise ConfigError(
                "this model has no classifier of texts. Load a ...ForSequenceClassification, or make one: "
                "malmoi train classify."
            )

    def _scores(self, hidden: Float[Tensor, "1 T D"], lengths: Sequence[int]) -> Float[Tensor, "B labels"]:
        """What the head says of each text, of which it reads the first token and no other."""
        assert self.model.head is not None, "`_require_classifier` was asked"
        logits: Tensor = self.model.head(first_of_each(hidden, lengths)[:, None], None)
        return _scores(logits.float(), self.model.config.problem_type)


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
