"""Samples -> packed batches: T tokens end to end, no padding, attention never crosses a segment.

    |<---------------------- T tokens ---------------------->|
    | end of A | conversation B | C       | C goes on | D be |gins in the next batch again
    lengths = (how many tokens each segment has), positions restart in each

Packing without attention across documents: Krell et al. 2021 (arXiv:2107.02027, section 3.2). Our difference:
prose is cut at the batch's end and goes on in the next batch, so there is no bin packing to do.
The engine calls models with the same shape (DESIGN: the batch is packed). Read next: `train/loop.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from malmoi.core.errors import ConfigError
from malmoi.data.mixture import Mixture, Progress, Reading
from malmoi.data.samples import NO_TARGET, Sample, SampleEncoder
from malmoi.data.sources import SourceConfig, Split

# How many samples may be open at once. Only conversations that find no room make it more than one.
MAX_OPEN = 64


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """One micro-batch. `targets` is the next token of the same document, or -100 where nothing is learned.

    For an encoder it is the token that is hidden here, or a text's label or score at its first token. `lengths` are
    the segments' lengths in tokens; they sum to T. Positions restart at 0 in each segment. For an encoder-decoder each
    segment has a text that the encoder reads: `source` has them end to end, `source_lengths` how long each is.
    """

    tokens: Int[Tensor, "1 T"]
    targets: Shaped[Tensor, "1 T"]
    lengths: tuple[int, ...]
    source: Int[Tensor, "1 S"] | None = None
    source_lengths: tuple[int, ...] = ()


@dataclass(slots=True)
class _Open:
    """A sample that was drawn, how much of it is used, and the mixture's state before it was drawn."""

    sample: Sample
    before: list[dict[str, int]]
    taken: int = 0

    @property
    def num_left(self) -> int:
        return len(self.sample.ids) - self.taken

    def fits(self, room: int) -> bool:
        return self.num_left > 0 and (self.sample.is_divisible or self.num_left <= room)


class PackedStream:
    """An iterator of `PackedBatch` over weighted sources: deterministic, resumable to the exact token.

    A text longer than `context_length` goes on in the next segment, one that the batch's end cuts goes on in
    the next batch; targets are the text's next token across those cuts too, so each is a target exactly once.
    A conversation is one segment; one longer than `context_length` is dropped and counted in `report()`.
    Where the end of a batch is too short for every open conversation, and there is no prose to fill it, it
    is filled with separators whose target is -100: every batch has exactly `tokens_per_batch` tokens.

    Endless, or until every source has been read `num_epochs` times. The first batch waits until each source's
    shuffle buffer holds `shuffle_characters` (about 2 bytes of memory each).

    >>> stream = PackedStream(sources, encoder, tokens_per_batch=8192, context_length=1024)  # doctest: +SKIP
    >>> next(stream).tokens.shape                                                            # doctest: +SKIP
    torch.Size([1, 8192])
    """

    def __init__(
        self,
        sources: Sequence[SourceConfig],
        encoder: SampleEncoder,
        *,
        tokens_per_batch: int,
        context_length: int,
        seed: int = 0,
        split: Split = "train",
        num_epochs: int | None = None,
        shuffle_characters: int = 32_000_000,
    ) -> None:
        if tokens_per_batch < 1 or context_length < 1:
            raise ConfigError(f"{tokens_per_batch=} and {context_length=} must be 1 or more.")
        self._num_tokens = tokens_per_batch
        self._max_segment = min(context_length, tokens_per_batch)
        self._separator_id = encoder.separator_id
        # What must not change between saving and loading a state, or the batches would differ. Paths may.
        self._settings: dict[str, Any] = {
            "num_sources": len(sources),
            "tokens_per_batch": tokens_per_batch,
            "context_length": context_length,
            "seed": seed,
            "split": split,
            "shuffle_characters": shuffle_characters,
        }
        for index, source in enumerate(sources):
            for name, value in asdict(source).items():
                if name != "path":
                    self._settings[f"sources[{index}].{name}"] = (
                        list(value) if isinstance(value, tuple) else value
                    )
        reading = Reading(
            seed=seed,
            max_tokens=self._max_segment,
            shuffle_characters=shuffle_characters,
            num_epochs=num_epochs,
            split=split,
        )
        self._mixture = Mixture(sources, encoder, reading)
        self._open: list[_Open] = []

    def __iter__(self) -> "PackedStream":
        return self

    def __next__(self) -> PackedBatch:
        tokens: list[Tensor] = []
        targets: list[Tensor] = []
        lengths: list[int] = []
        room = self._num_tokens
        while room and (chosen := self._first_that_fits(room)):
            start = chosen.taken
            chosen.taken += min(room, self._max_segment, chosen.num_left)
            part = chosen.sample.part(start, chosen.taken)
            tokens.append(part.ids)
            targets.append(part.targets)
            lengths += chosen.sample.segments or [chosen.taken - start]
            room -= chosen.taken - start
            while self._open and not self._open[0].num_left:
                del self._open[0]
        if not tokens:
            raise StopIteration
        while room:
            filler = min(room, self._max_segment)
            tokens.append(torch.full((filler,), self._separator_id))
            targets.append(torch.full((filler,), NO_TARGET))
            lengths.append(filler)
            room -= filler
        return PackedBatch(
            tokens=torch.cat(tokens)[None], targets=torch.cat(targets)[None], lengths=tuple(lengths)
        )

    def _first_that_fits(self, room: int) -> _Open | None:
        """The oldest open sample that can use `room` tokens; draws new ones until there is one."""
        for sample in self._open:
            if sample.fits(room):
                return sample
        while len(self._open) < MAX_OPEN and (drawn := self._draw()):
            if drawn.fits(room):
                return drawn
        return None

    def _draw(self) -> _Open | None:
        before = self._mixture.state_dict()
        sample = next(self._mixture, None)
        if sample is None:
            return None
        self._open.append(_Open(sample, before))
        return self._open[-1]

    def report(self) -> list[tuple[SourceConfig, Progress]]:
        """Tokens, documents, epochs and dropped conversations of each source."""
        return self._mixture.report()

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch begins: the counters before the oldest open sample, and what is used of each.

        Small and JSON-able.
        """
        sources = self._open[0].before if self._open else self._mixture.state_dict()
        return {
            "settings": self._settings,
            "sources": sources,
            "taken": [sample.taken for sample in self._open],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with the batch that would have come next. Raises `ConfigError` if the settings differ."""
        for name, value in self._settings.items():
            saved = state["settings"].get(name)
            if saved != value:
                raise ConfigError(
                    f"the saved data state was made with {name}={saved!r}, this run has {value!r}. "
                    "Resume with the same value, or start a new run."
                )
        self._mixture.load_state_dict(state["sources"])
        self._open = []
        for taken in state["taken"]:
            if drawn := self._draw():
                drawn.taken = taken
