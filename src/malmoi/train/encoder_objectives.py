"""What encoders learn: hidden tokens, labels of texts, how near two texts are.

Each is an `Objective` of `objective.py`. A packed batch holds texts in their frames end to end; a label or a score
stands at its text's first token. Read next: `data/framed.py` and `data/mask.py`, which make such batches;
`agreement.py`, the measures.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from malmoi.core.errors import ConfigError, DataError
from malmoi.data.documents import Labelled
from malmoi.data.framed import FramedEncoder
from malmoi.data.mask import mask_tokens
from malmoi.data.pack import PackedBatch
from malmoi.data.samples import NO_TARGET, SampleEncoder
from malmoi.llm.pooling import Pooling, write_pooling
from malmoi.models import bert, build_model, initialise, require_kind
from malmoi.models.bert_heads import Head
from malmoi.models.bert_shape import BertShape
from malmoi.nn.heads import mean_of_each
from malmoi.nn.stack import Encoder, Model
from malmoi.text.chat import ChatTemplate
from malmoi.text.tokenizer import Tokenizer
from malmoi.train.agreement import agreement_of_labels, agreement_of_scores
from malmoi.train.objective import Judged, Learner, Loss, Objective


class OfEncoder(Objective):
    """What the objectives of encoders share: a new model is a BERT, texts are framed."""

    def shape(self, depth: int, *, vocab_size: int, max_positions: int) -> Any:
        return bert.sized(depth, vocab_size=vocab_size, max_positions=max_positions)

    def encoder(self, tokenizer: Tokenizer, template: ChatTemplate | None) -> SampleEncoder:
        return FramedEncoder(tokenizer=tokenizer)


@dataclass(frozen=True, kw_only=True)
class MaskedToken(OfEncoder):
    """The tokens that `data.mask.mask_tokens` hid, a share of `rate`; others are hidden each time a text is read.

    RoBERTa's dynamic masking (Liu et al. 2019, arXiv:1907.11692, section 4.1).
    """

    kind: Literal["masked-token"] = "masked-token"
    rate: float = 0.15

    def __post_init__(self) -> None:
        if not 0 < self.rate < 1:
            raise ConfigError(f"rate={self.rate} of hidden tokens is not between 0 and 1. BERT hides 0.15.")

    def fit(self, model: Model, *, seed: int) -> Learner:
        return with_head(model, seed=seed, head="masked-token", labels=())

    def pose(self, batch: PackedBatch, tokenizer: Tokenizer, *, seed: int) -> PackedBatch:
        is_special = torch.zeros(tokenizer.vocab_size, dtype=torch.bool)
        is_special[list(tokenizer.special_tokens.values())] = True
        mask_id = tokenizer.token_id(str(tokenizer.config.get("mask_token", "[MASK]")))
        if mask_id is None:
            raise ConfigError("the tokenizer has no [MASK] token. Use the tokenizer of an encoder.")
        return mask_tokens(batch, is_special=is_special, mask_id=mask_id, rate=self.rate, seed=seed)

    def made_up(self, batch: PackedBatch) -> PackedBatch:
        targets = torch.full_like(batch.targets, NO_TARGET)
        num_hidden = round(self.rate * targets.shape[1])
        targets[:, :num_hidden] = 0
        return replace(batch, targets=targets)

    def loss(self, model: Learner, *, is_compiled: bool) -> Loss:
        def summed(states: Tensor, batch: PackedBatch) -> Tensor:
            logits, targets = _hidden_logits(model, states, batch)
            return F.cross_entropy(logits.float(), targets, reduction="sum")

        return summed

    def measure(self, model: Learner, judged: Judged) -> dict[str, float]:
        pairs = [_hidden_logits(model, states, batch) for batch, states in judged]
        right = sum(int((logits.argmax(-1) == targets).sum()) for logits, targets in pairs)
        return {"accuracy": right / sum(len(targets) for _, targets in pairs)}


@dataclass(frozen=True, kw_only=True)
class Labels(OfEncoder):
    """A text's label. A row names it, or gives its number in `labels`, from 0 on."""

    kind: Literal["labels"] = "labels"
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.labels)) < max(2, len(self.labels)):
            raise ConfigError(f"labels={list(self.labels)}: name two or more, each once.")

    def fit(self, model: Model, *, seed: int) -> Learner:
        return with_head(model, seed=seed, head="sequence", labels=self.labels)

    def encoder(self, tokenizer: Tokenizer, template: ChatTemplate | None) -> SampleEncoder:
        return FramedEncoder(tokenizer=tokenizer, target_of=self._number)

    def made_up(self, batch: PackedBatch) -> PackedBatch:
        return replace(batch, targets=_at_starts(batch, torch.zeros(len(batch.lengths), dtype=torch.long)))

    def loss(self, model: Learner, *, is_compiled: bool) -> Loss:
        def summed(states: Tensor, batch: PackedBatch) -> Tensor:
            logits, labels = _text_logits(model, states, batch)
            return F.cross_entropy(logits.float(), labels, reduction="sum")

        return summed

    def measure(self, model: Learner, judged: Judged) -> dict[str, float]:
        pairs = [_text_logits(model, states, batch) for batch, states in judged]
        return agreement_of_labels(
            [logits.argmax(-1) for logits, _ in pairs], [labels for _, labels in pairs]
        )

    def _number(self, document: Labelled) -> int:
        label = document.label
        if document.pair is not None:
            raise ConfigError(
                f"{document.where} is a pair, but a label is of one text. Leave pair_field out."
            )
        if isinstance(label, int) and 0 <= label < len(self.labels):
            return label
        if label in self.labels:
            return self.labels.index(str(label))
        raise DataError(
            f"{document.where}: the label {label!r} is not one of {list(self.labels)}, nor the number of one."
        )


@dataclass(frozen=True, kw_only=True)
class Similarity(OfEncoder):
    """The cosine of two texts' vectors should be their score, 0 to `top_score`, on a scale of 0 to 1.

    A vector is the mean of a text's states; the two are made apart, so that texts can be compared that were never
    read together. Sentence-BERT's regression (Reimers & Gurevych 2019, arXiv:1908.10084, section 3).
    """

    kind: Literal["similarity"] = "similarity"
    top_score: float = 5.0

    def fit(self, model: Model, *, seed: int) -> Learner:
        return with_head(model, seed=seed, head="pooler", labels=())

    def encoder(self, tokenizer: Tokenizer, template: ChatTemplate | None) -> SampleEncoder:
        return FramedEncoder(tokenizer=tokenizer, target_of=self._share)

    def made_up(self, batch: PackedBatch) -> PackedBatch:
        targets = torch.full((len(batch.lengths),), float(NO_TARGET))
        targets[:-1:2] = 0.0
        return replace(batch, targets=_at_starts(batch, targets))

    def loss(self, model: Learner, *, is_compiled: bool) -> Loss:
        def summed(states: Tensor, batch: PackedBatch) -> Tensor:
            cosines, wanted = _cosines(states, batch)
            return F.mse_loss(cosines, wanted, reduction="sum")

        return summed

    def measure(self, model: Learner, judged: Judged) -> dict[str, float]:
        pairs = [_cosines(states, batch) for batch, states in judged]
        return agreement_of_scores([cosines for cosines, _ in pairs], [wanted for _, wanted in pairs])

    def complete(self, directory: Path, model: Model) -> None:
        write_pooling(directory, Pooling(kind="mean"), hidden_size=model.config.hidden_size)

    def _share(self, document: Labelled) -> float:
        if document.pair is None:
            raise ConfigError(f"{document.where} is one text, but similarity is of two. Set pair_field.")
        if isinstance(document.label, str) or not 0 <= document.label <= self.top_score:
            raise DataError(f"{document.where}: the score {document.label!r} is not 0 to {self.top_score}.")
        return document.label / self.top_score


def with_head(model: Model, *, seed: int, head: Head, labels: tuple[str, ...]) -> Encoder:
    """The same body under another head with new weights; the model itself if it has that head already.

    Raises ConfigError for what is no BERT.
    """
    encoder = require_kind(model, Encoder, for_what=f"the objective of the head {head!r}")
    if not isinstance(encoder.config, BertShape):
        raise ConfigError(
            f"{type(encoder.config).__name__} has no place for the head {head!r}. Start from a BERT or RoBERTa."
        )
    config = replace(encoder.config, head=head, labels=labels)
    if config == encoder.config:
        return encoder
    adapted = require_kind(initialise(build_model(config), seed=seed), Encoder, for_what="a new head")
    body = {name: tensor for name, tensor in encoder.state_dict().items() if not name.startswith("head.")}
    missing, _ = adapted.load_state_dict(body, strict=False)
    assert all(name.startswith("head.") for name in missing), f"the body lacks {missing}"
    return adapted


# --- from a batch's states to answers ----------------------------------------------------------------------


def _targets(batch: PackedBatch) -> tuple[Int[Tensor, " n"], Tensor]:
    """Where the targets are, and what they are. On the CPU, where a batch is: no device is waited for."""
    places = (batch.targets[0] != NO_TARGET).nonzero()[:, 0]
    return places, batch.targets[0, places]


def _hidden_logits(model: Learner, states: Tensor, batch: PackedBatch) -> tuple[Tensor, Tensor]:
    """Logits over the vocabulary where a token is hidden, and the token."""
    places, targets = _targets(batch)
    logits = _answer(model, states.index_select(1, places.to(states.device)))
    return logits[0], targets.to(states.device)


def _text_logits(model: Learner, states: Tensor, batch: PackedBatch) -> tuple[Tensor, Tensor]:
    """Logits over the labels of each text, from the state of its first token, and its label."""
    places, labels = _targets(batch)
    firsts = states[0].index_select(0, places.to(states.device))
    return _answer(model, firsts[:, None]), labels.to(states.device)


def _answer(model: Learner, states: Float[Tensor, "B T D"]) -> Tensor:
    """What the head says of states of its choice, all real."""
    assert isinstance(model, Encoder), "`fit` lets no other kind through"
    assert model.head is not None, "`fit` gave it one"
    logits: Tensor = model.head(states, None)
    return logits


def _cosines(states: Tensor, batch: PackedBatch) -> tuple[Tensor, Tensor]:
    """Of each pair, which is two segments, the cosine of their vectors and the one that is wanted."""
    at_starts = batch.targets[0, _starts(batch)]
    firsts = (at_starts != NO_TARGET).nonzero()[:, 0]
    vectors = mean_of_each(states.float(), batch.lengths)
    left, right = (vectors.index_select(0, which.to(states.device)) for which in (firsts, firsts + 1))
    return F.cosine_similarity(left, right), at_starts[firsts].to(states.device)


def _starts(batch: PackedBatch) -> Int[Tensor, " segments"]:
    return torch.tensor([0, *batch.lengths[:-1]]).cumsum(0)


def _at_starts(batch: PackedBatch, targets: Tensor) -> Tensor:
    placed = torch.full(batch.tokens.shape, NO_TARGET, dtype=targets.dtype)
    placed[0, _starts(batch)] = targets
    return placed
