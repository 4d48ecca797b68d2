"""What a run learns: what documents become, what a batch asks, and how answers are judged.

    NextToken      after each token the next                     a decoder; the default
    MaskedToken    the tokens that were hidden                   an encoder learns a language
    Labels         a text's label                                and then a task: sentiment
    Similarity     how near the vectors of two texts should be   `malmoi embed`

The loop is the same for all: it draws batches, `pose`s them, adds up `loss`, and `measure`s held-out ones. Read next:
`encoder_objectives.py`, the last three; `loop.py`, which calls them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from malmoi.core.errors import ConfigError
from malmoi.data.pack import PackedBatch
from malmoi.data.samples import Encoder, SampleEncoder
from malmoi.models import llama, require_kind
from malmoi.nn.linear import Linear
from malmoi.nn.stack import Decoder, Model, Stack
from malmoi.text.chat import ChatTemplate
from malmoi.text.tokenizer import Tokenizer
from malmoi.train.losses import ChunkedCrossEntropy

Loss = Callable[[Float[Tensor, "1 T D"], PackedBatch], Float[Tensor, ""]]
Judged = Iterable[tuple[PackedBatch, Float[Tensor, "1 T D"]]]


class Objective(ABC):
    """What is the same for most objectives: a batch is posed as it is drawn, and judged by its loss alone.

    Attributes:
        is_text: whether the targets are a whole text, whose bytes a loss can be divided by.
    """

    is_text: ClassVar[bool] = False

    @abstractmethod
    def shape(self, depth: int, *, vocab_size: int, max_positions: int) -> Any:
        """The configuration of a new model with `depth` layers."""

    @abstractmethod
    def fit(self, model: Model, *, seed: int) -> Stack:
        """The model with the head that is learned; raises ConfigError for one of the wrong kind."""

    @abstractmethod
    def encoder(self, tokenizer: Tokenizer, template: ChatTemplate | None) -> SampleEncoder:
        """Documents -> samples."""

    def pose(self, batch: PackedBatch, tokenizer: Tokenizer, *, seed: int) -> PackedBatch:
        """What the model is asked about a batch; another `seed` may ask differently."""
        return batch

    def made_up(self, batch: PackedBatch) -> PackedBatch:
        """The batch with targets where real ones have some: to measure time and memory by."""
        return batch

    @abstractmethod
    def loss(self, model: Stack, *, is_compiled: bool) -> Loss:
        """A function from a batch's states to the summed loss of its targets, in nats where it is a likelihood."""

    def measure(self, model: Stack, judged: Judged) -> dict[str, float]:
        """What else is told of held-out batches, beside their mean loss."""
        return {}

    def complete(self, directory: Path, model: Model) -> None:  # noqa: B027  # most readers need nothing
        """Write what a reader of the model's directory needs besides."""


@dataclass(frozen=True, kw_only=True)
class NextToken(Objective):
    """After each token the next; in a conversation only what the assistant says."""

    kind: Literal["next-token"] = "next-token"
    is_text: ClassVar[bool] = True

    def shape(self, depth: int, *, vocab_size: int, max_positions: int) -> Any:
        return llama.sized(depth, vocab_size=vocab_size, max_positions=max_positions)

    def fit(self, model: Model, *, seed: int) -> Stack:
        decoder = require_kind(model, Decoder, for_what="language-model training")
        if not isinstance(decoder.head, Linear):
            raise ConfigError(
                f"the head of this model is a {type(decoder.head).__name__}, not one matrix (Gemma 2 caps its logits), "
                "and the chunked loss knows only matrices. Train a model without a cap on its logits."
            )
        return decoder

    def encoder(self, tokenizer: Tokenizer, template: ChatTemplate | None) -> SampleEncoder:
        return Encoder(tokenizer=tokenizer, template=template)

    def loss(self, model: Stack, *, is_compiled: bool) -> Loss:
        head = model.head
        assert isinstance(head, Linear), "`fit` lets no other head through"
        chunked = ChunkedCrossEntropy(is_compiled=is_compiled)
        return lambda states, batch: chunked(states, head.weight, batch.targets.to(states.device))
