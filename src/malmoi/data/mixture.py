"""Several sources -> one deterministic order of samples, mixed by weight in tokens.

    SourceConfig -> read_documents -> shuffle -> encode = SampleStream, one a source
    SampleStreams -> Mixture: whichever source is furthest behind its share of the tokens goes next

There is no random choice between sources, so the shares hold at every moment and not only on average, and
the whole state is a few counters. A restored stream reads again what it had read, without encoding it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count, islice
from random import Random

from malmoi.core.errors import ConfigError, DataError, TrainingError
from malmoi.data.documents import Document
from malmoi.data.samples import Sample, SampleEncoder
from malmoi.data.sources import SourceConfig, Split, read_documents

READ_AHEAD = 16  # documents encoded at once, so that the tokenizer can use several threads


@dataclass(kw_only=True)
class Progress:
    """What was drawn from one source: `num_documents` in this epoch, the other counts since the start."""

    epoch: int = 0
    num_documents: int = 0
    num_tokens: int = 0
    num_dropped: int = 0  # conversations that were too long


def shuffle(documents: Iterable[Document], rng: Random, max_characters: int) -> Iterator[Document]:
    """Every document once, in an order drawn from `rng`; holds about `max_characters` of them in memory.

    0 keeps the order. A corpus that fits into the buffer is shuffled perfectly; in a larger one a document
    can come any distance later than in the file, but not earlier by more than the buffer.
    """
    held: list[Document] = []
    size = 0
    for document in documents:
        held.append(document)
        size += document.num_characters
        while size > max_characters and held:
            at = rng.randrange(len(held))
            held[at], held[-1] = held[-1], held[at]
            chosen = held.pop()
            size -= chosen.num_characters
            yield chosen
    rng.shuffle(held)
    yield from held


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How sources are read: what is the same for every source of a mixture.

    Conversations longer than `max_tokens` are dropped. `num_epochs=None` reads on without an end.
    """

    seed: int
    max_tokens: int
    shuffle_characters: int
    num_epochs: int | None
    split: Split


class SampleStream:
    """The samples of one source, epoch after epoch, each epoch in its own order.

    `progress` says where to start and is mutated with each sample. `name` seeds the order together with
    `reading.seed`, so two sources (or the same one twice) are not shuffled alike.
    """

    def __init__(
        self, source: SourceConfig, encoder: SampleEncoder, reading: Reading, *, name: str, progress: Progress
    ) -> None:
        self.source = source
        self.progress = progress
        self._encoder = encoder
        self._reading = reading
        self._name = name
        self._samples = self._encode(self._read())

    def __iter__(self) -> "SampleStream":
        return self

    def __next__(self) -> Sample:
        progress = self.progress
        for epoch, sample in self._samples:
            if epoch != progress.epoch:
                self._check_that_something_was_used()
                progress.epoch, progress.num_documents = epoch, 0
            progress.num_documents += 1
            if not len(sample.ids):
                continue  # one token from the middle of a long text: it follows nothing and nothing follows
            if sample.is_divisible or len(sample.ids) <= self._reading.max_tokens:
                progress.num_tokens += len(sample.ids)
                return sample
            progress.num_dropped += 1
        self._check_that_something_was_used()
        raise StopIteration

    def _check_that_something_was_used(self) -> None:
        if self.progress.num_tokens == 0:
            raise TrainingError(
                f"every conversation of {self.source.path} is longer than {self._reading.max_tokens} tokens. "
                "Use a larger context_length or shorter conversations."
            )

    def _encode(self, documents: Iterator[tuple[int, Document]]) -> Iterator[tuple[int, Sample]]:
        while found := list(islice(documents, READ_AHEAD)):
            samples = self._encoder.encode([document for _, document in found])
            yield from zip((epoch for epoch, _ in found), samples, strict=True)

    def _read(self) -> Iterator[tuple[int, Document]]:
        """Documents with their epoch, from where `progress` stands."""
        start, end, split = self.progress.epoch, self._reading.num_epochs, self._reading.split
        skip = self.progress.num_documents
        for epoch in count(start) if end is None else range(start, end):
            rng = Random(f"{self._reading.seed}/{self._name}/{epoch}")
            in_file_order = read_documents(self.source, split=split, file_order=rng)
            found = 0
            for document in shuffle(in_file_order, rng, self._reading.shuffle_characters):
                found += 1
                if found > skip:
                    yield epoch, document
            if found == 0:
                raise DataError(
                    f"{self.source.path} has no {split} documents. Check include={self.source.include}, "
                    f"exclude={self.source.exclude} and holdout_permille={self.source.holdout_permille}."
                )
            if found < skip:
                raise DataError(
                    f"{self.source.path} has {found} documents, but the saved state had read {skip}. "
                    "The data has changed since; restore it, or start a new run."
                )
            skip = 0


class Mixture:
    """Draws samples from several sources so that each gets its share of the tokens.

    The next sample comes from the source with the largest deficit: its share of the tokens drawn so far
    minus what it has had. So no source runs ahead of its share by more than its last document. With
    `num_epochs` the mixture ends when every source has been read that often; the shares hold until the
    first one ends.
    """

    def __init__(self, sources: Sequence[SourceConfig], encoder: SampleEncoder, reading: Reading) -> None:
        if not sources:
            raise ConfigError("a data stream needs at least one source, got none.")
        self._sources = sources
        self._encoder = encoder
        self._reading = reading
        total = sum(source.weight for source in sources)
        self._shares = [source.weight / total for source in sources]
        self._open([Progress() for _ in sources])

    def _open(self, progress: Sequence[Progress]) -> None:
        self._streams = [
            SampleStream(source, self._encoder, self._reading, name=str(index), progress=start)
            for index, (source, start) in enumerate(zip(self._sources, progress, strict=True))
        ]
        self._running = list(range(len(self._streams)))

    def __iter__(self) -> "Mixture":
        return self

    def __next__(self) -> Sample:
        while self._running:
            index = self._furthest_behind()
            try:
                return next(self._streams[index])
            except StopIteration:
                self._running.remove(index)
        raise StopIteration

    def _furthest_behind(self) -> int:
        drawn = sum(stream.progress.num_tokens for stream in self._streams)

        def deficit(index: int) -> tuple[float, float]:
            share = self._shares[index]
            # At a tie (the start) the larger share goes first, so that a rare source cannot open the run.
            return share * drawn - self._streams[index].progress.num_tokens, share

        return max(self._running, key=deficit)

    def report(self) -> list[tuple[SourceConfig, Progress]]:
        """What was drawn so far, by source."""
        return [(stream.source, replace(stream.progress)) for stream in self._streams]

    def state_dict(self) -> list[dict[str, int]]:
        """A few counters by source, JSON-able."""
        return [asdict(stream.progress) for stream in self._streams]

    def load_state_dict(self, state: Sequence[Mapping[str, int]]) -> None:
        """Continue after the last sample that had been drawn when the state was taken."""
        self._open([Progress(**counters) for counters in state])
