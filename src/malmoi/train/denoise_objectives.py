"""What encoder-decoders learn from text alone: a damaged text comes in, and what is missing, or all of it, goes out.

    SpanCorruption   numbered holes in, what stood in them out                  T5
    TextInfilling    holes, and sentences in another order in, the text out     BART

Each is an `Objective` of `objective.py`. A text is damaged anew each time that it is drawn; the packed batch keeps the
text's order, and its targets are what the decoder writes. Read next: `data/denoise.py`, which does the damage.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, NamedTuple

import torch

from malmoi.core.errors import ConfigError
from malmoi.data.denoise import (
    Pair,
    WholeEncoder,
    corrupt_spans,
    infill_text,
    permute_sentences,
    poisson_spans,
    random_spans,
    require_damage,
    split_sentences,
)
from malmoi.data.pack import PackedBatch
from malmoi.data.samples import NO_TARGET, SampleEncoder
from malmoi.models import require_kind
from malmoi.models.bart import BartConfig
from malmoi.models.t5 import T5Config
from malmoi.nn.stack import EncoderDecoder, Model
from malmoi.text.chat import ChatTemplate
from malmoi.text.tokenizer import Tokenizer
from malmoi.train.losses import head_loss, matrix_of
from malmoi.train.objective import Learner, Loss, Objective


class Marks(NamedTuple):
    """The tokens that are no text: what the decoder starts with, what frames a text, and what holes are filled with.

    `full_stops` are tokens that end a sentence.
    """

    start: int
    opening: tuple[int, ...]
    end: int
    holes: tuple[int, ...]
    full_stops: frozenset[int] = frozenset()


class Denoise(Objective):
    """What both share: texts are whole until they are posed, and the decoder is taught what the encoder did not see."""

    def fit(self, model: Model, *, seed: int) -> Learner:
        both = require_kind(model, EncoderDecoder, for_what="learning to repair text")
        if not both.has_token_source:
            raise ConfigError("the encoder of this model does not read text. Use a T5 or a BART.")
        matrix_of(both.head)
        return both

    def encoder(self, tokenizer: Tokenizer, template: ChatTemplate | None) -> SampleEncoder:
        self.marks(tokenizer, [])
        return WholeEncoder(tokenizer=tokenizer)

    def pose(self, batch: PackedBatch, tokenizer: Tokenizer, *, seed: int) -> PackedBatch:
        return self._damaged(batch, self.marks(tokenizer, batch.tokens[0].tolist()), seed=seed)

    def made_up(self, batch: PackedBatch) -> PackedBatch:
        holes = (0,) * (1 + max(batch.lengths))
        return self._damaged(batch, Marks(start=0, opening=(), end=0, holes=holes), seed=0)

    def loss(self, model: Learner, *, is_compiled: bool) -> Loss:
        assert isinstance(model, EncoderDecoder), "`fit` lets no other kind through"
        chunked = head_loss(model.head, is_compiled=is_compiled)
        return lambda states, batch: chunked(states, batch.targets)

    def generation(
        self, tokenizer: Tokenizer, said: Mapping[str, object] | None
    ) -> Mapping[str, object] | None:
        marks = self.marks(tokenizer, [])
        return {**(said or {}), "decoder_start_token_id": marks.start, "eos_token_id": marks.end}

    @abstractmethod
    def marks(self, tokenizer: Tokenizer, ids: Sequence[int]) -> Marks:
        """The tokens of `tokenizer` that damage needs, full stops as far as they are among `ids`.

        Raises ConfigError if it lacks one.
        """

    @abstractmethod
    def damage(self, ids: Sequence[int], marks: Marks, random: Random) -> Pair:
        """What becomes of a text, and what is to be written. Draws from `random` (mutates it)."""

    def _damaged(self, batch: PackedBatch, marks: Marks, *, seed: int) -> PackedBatch:
        """Each segment as a pair; those without a target, which fill a batch up, are left out."""
        random = Random(seed)
        sources, answers = [], []
        texts, wanted = (torch.split(part[0], list(batch.lengths)) for part in (batch.tokens, batch.targets))
        for tokens, targets in zip(texts, wanted, strict=True):
            if (targets != NO_TARGET).any():
                source, target = self.damage(tokens.tolist(), marks, random)
                sources.append([*marks.opening, *source, marks.end])
                answers.append([*marks.opening, *target, marks.end])
        return PackedBatch(
            tokens=_packed([[marks.start, *answer[:-1]] for answer in answers]),
            targets=_packed(answers),
            lengths=tuple(map(len, answers)),
            source=_packed(sources),
            source_lengths=tuple(map(len, sources)),
        )


@dataclass(frozen=True, kw_only=True)
class SpanCorruption(Denoise):
    """A numbered hole in the place of each span, and the spans to be written (arXiv:1910.10683, section 3.3.4).

    A text of a single token is left whole: there is nothing to write but the end. The decoder starts with the padding
    token, as T5's does. A new model is a T5.
    """

    kind: Literal["span-corruption"] = "span-corruption"
    share: float = 0.15
    mean_length: float = 3.0

    def __post_init__(self) -> None:
        require_damage(self.share, self.mean_length)

    def shape(self, depth: int, *, vocab_size: int, max_positions: int) -> T5Config:
        return T5Config(
            vocab_size=vocab_size, max_positions=max_positions, num_layers=depth, num_decoder_layers=depth,
            **_widths(depth), head_dim=32,
        )  # fmt: skip

    def marks(self, tokenizer: Tokenizer, ids: Sequence[int]) -> Marks:
        numbers = range(tokenizer.vocab_size)
        found = map(tokenizer.token_id, (f"<extra_id_{number}>" for number in numbers))
        holes = tuple(iter(lambda: next(found), None))
        if not holes:
            raise _lacks("<extra_id_0>, the first of the numbered tokens that stand for what was taken out")
        opening, end = _frame(tokenizer)
        return Marks(start=_named(tokenizer, "pad_token"), opening=opening, end=end, holes=holes)

    def damage(self, ids: Sequence[int], marks: Marks, random: Random) -> Pair:
        spans: list[range] = []
        if len(ids) > 1:
            spans = random_spans(len(ids), random=random, share=self.share, mean_length=self.mean_length)
        return corrupt_spans(ids, spans, sentinels=marks.holes)


@dataclass(frozen=True, kw_only=True)
class TextInfilling(Denoise):
    """A hole in the place of each span, sentences in a random order, and all to be written (arXiv:1910.13461, 2.2).

    A sentence ends with a token whose last character is one of `. ? ! 。` or the end of a line. The decoder starts with
    the token that ends a text, as BART's does. A new model is a BART.
    """

    kind: Literal["text-infilling"] = "text-infilling"
    share: float = 0.3
    mean_length: float = 3.0

    def __post_init__(self) -> None:
        require_damage(self.share, self.mean_length)

    def shape(self, depth: int, *, vocab_size: int, max_positions: int) -> BartConfig:
        sizes = _widths(depth)
        return BartConfig(
            vocab_size=vocab_size, max_positions=max_positions, num_layers=depth, num_decoder_layers=depth,
            **sizes, num_decoder_heads=sizes["num_heads"], decoder_intermediate_size=sizes["intermediate_size"],
        )  # fmt: skip

    def num_added(self, tokenizer: Tokenizer) -> int:
        """What the decoder reads before the text: the source, which has as much around it, is seldom longer."""
        opening, _ = _frame(tokenizer)
        return 1 + len(opening)

    def marks(self, tokenizer: Tokenizer, ids: Sequence[int]) -> Marks:
        opening, end = _frame(tokenizer)
        stops = {one for one in set(ids) if tokenizer.token_bytes(one).rstrip(b" ").endswith(FULL_STOPS)}
        hole = _named(tokenizer, "mask_token")
        return Marks(start=end, opening=opening, end=end, holes=(hole,), full_stops=frozenset(stops))

    def damage(self, ids: Sequence[int], marks: Marks, random: Random) -> Pair:
        sentences = split_sentences(ids, ends=marks.full_stops)
        shuffled = permute_sentences(sentences, random=random)
        spans = poisson_spans(len(shuffled), random=random, share=self.share, mean_length=self.mean_length)
        return Pair(infill_text(shuffled, spans, mask=marks.holes[0]), list(ids))


FULL_STOPS = tuple(stop.encode() for stop in (".", "?", "!", "。", "\n"))


def _widths(depth: int) -> dict[str, Any]:
    """Width 32 a layer of each side, heads of 32."""
    return {"hidden_size": 32 * depth, "num_heads": depth, "intermediate_size": 128 * depth}


def _packed(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    return torch.tensor([[token for row in rows for token in row]])


def _frame(tokenizer: Tokenizer) -> tuple[tuple[int, ...], int]:
    """What the tokenizer puts in front of a text, and the token that it puts behind."""
    end = WholeEncoder(tokenizer=tokenizer).separator_id
    ids, _ = tokenizer.encode_framed("")
    return tuple(ids[:-1]), end


def _named(tokenizer: Tokenizer, name: str) -> int:
    token = tokenizer.config.get(name)
    token_id = tokenizer.token_id(token) if isinstance(token, str) else None
    if token_id is None:
        raise _lacks(f"{name} ({token!r} in its tokenizer_config.json)")
    return token_id


def _lacks(what: str) -> ConfigError:
    return ConfigError(
        f"the tokenizer has no {what}. Use the tokenizer of a T5 or BART; `malmoi tokenizer train --text-to-text` "
        "makes one."
    )
