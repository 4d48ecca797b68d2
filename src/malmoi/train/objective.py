"""What a run learns: what documents become, what a batch asks, and how answers are judged.

    NextToken      after each token the next                     a decoder; the default
    MaskedToken    the tokens that were hidden                   an encoder learns a language
    Labels         a text's label                                and then a task: sentiment
    Similarity     how near the vectors of two texts should be   `malmoi embed`
    SpanCorruption, TextInfilling   what is missing of a damaged text    an encoder-decoder

The loop is the same for all: it draws batches, `pose`s them, adds up `loss`, and `measure`s held-out ones. Read next:
`encoder_objectives.py` and `denoise_objectives.py`, which have the others; `loop.py`, which calls them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from malmoi.core.errors import ConfigError
from malmoi.data.pack import PackedBatch
from malmoi.data.samples import Encoder, SampleEncoder
from malmoi.models import llama, require_kind
from malmoi.nn.stack import Decoder, EncoderDecoder, Model, Stack
from malmoi.text.chat import ChatTemplate
from malmoi.text.tokenizer import Tokenizer
from malmoi.train.balance import Balance, routers_of
from malmoi.train.losses import head_loss, matrix_of

Learner = Stack | EncoderDecoder  # what a run may train
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
    def fit(self, model: Model, *, seed: int) -> Learner:
        """The model with the head that is learned; raises ConfigError for one of the wrong kind."""

    def num_added(self, tokenizer: Tokenizer) -> int:
        """How many positions a model has to have for what frames a text, besides `context_length`."""
        return 0

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
    def loss(self, model: Learner, *, is_compiled: bool) -> Loss:
        """A function from a batch's states to the summed loss of its targets, in nats where it is a likelihood."""

    def balance(self, model: Learner) -> Balance:
        """What keeps the experts of a sparse model busy; nothing, where the objective does not say."""
        return Balance([])

    def measure(self, model: Learner, judged: Judged) -> dict[str, float]:
        """What else is told of held-out batches, beside their mean loss."""
        return {}

    def generation(
        self, tokenizer: Tokenizer, said: Mapping[str, object] | None
    ) -> Mapping[str, object] | None:
        """`generation_config.json` of the result, where the checkpoint that the run starts from `said` that.

        None for a model that writes no text.
        """
        return None

    def complete(self, directory: Path, model: Model) -> None:  # noqa: B027  # most readers need nothing
        """Write what a reader of the model's directory needs besides."""


@dataclass(frozen=True, kw_only=True)
class NextToken(Objective):
    """After each token the next; in a conversation only what the assistant says.

    Sparse models learn to use their experts alike (`balance.py`): `aux_weight` is that of the load-balancing loss, in
    nats a target, where routers take a softmax; `bias_speed` how far a step moves a bias where they do not. 0 is off.
    """

    kind: Literal["next-token"] = "next-token"
    aux_weight: float = 0.01
    bias_speed: float = 0.001
    is_text: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("aux_weight", "bias_speed"):
            if not 0 <= (value := getattr(self, name)) < float("inf"):
                raise ConfigError(f"{name}={value} is not 0 or more. Give 0 to leave the experts alone.")

    def shape(self, depth: int, *, vocab_size: int, max_positions: int) -> Any:
        return llama.sized(depth, vocab_size=vocab_size, max_positions=max_positions)

    def fit(self, model: Model, *, seed: int) -> Stack:
        decoder = require_kind(model, Decoder, for_what="language-model training")
        matrix_of(decoder.head)
        return decoder

    def encoder(self, tokenizer: Tokenizer, template: ChatTemplate | None) -> SampleEncoder:
        return Encoder(tokenizer=tokenizer, template=template)

    def loss(self, model: Learner, *, is_compiled: bool) -> Loss:
        assert isinstance(model, Decoder), "`fit` lets no other kind through"
        chunked = head_loss(model.head, is_compiled=is_compiled)
        return lambda states, batch: chunked(states, batch.targets)

    def balance(self, model: Learner) -> Balance:
        return Balance(routers_of(model), aux_weight=self.aux_weight, bias_speed=self.bias_speed)

    def generation(
        self, tokenizer: Tokenizer, said: Mapping[str, object] | None
    ) -> Mapping[str, object] | None:
        """An answer ends with its turn or with the document; small models repeat themselves, which sampling avoids."""
        if said is not None:
            return said
        special = tokenizer.special_tokens
        ends = [special[token] for token in ("<|im_end|>", "<|endoftext|>") if token in special]
        sampling = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1}
        return {"eos_token_id": ends, **sampling}
