"""What one step shows to the model: the tokens of all generations end to end, and for each layer where its keys lie.

    scheduler -> how many ids of each generation -> LAYOUT: the numbers -> CONTEXT: tensors over them -> model

Places are counted in NumPy; nothing is run here, and nothing stored. Read next: `replay.py`, which needs only the
numbers where a step is recorded already; `runner.py`, which runs the model on the other steps.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from malmoi.engine.blocks import Table
from malmoi.engine.groups import Group, Kind
from malmoi.engine.request import Generation
from malmoi.nn.cache import BlockTables, CacheSpec, KeyValueSpec, PagedCache, PagedStep
from malmoi.nn.context import Context
from malmoi.nn.splice import Splice
from malmoi.nn.state import StatePool, StateStep

Counts = Mapping[Generation, int]
"""How many ids of each generation a step shows."""
Send = Callable[[NDArray[Any]], Tensor]
"""Makes a tensor of numbers, where the model is."""


@dataclass(eq=False)
class Pages:
    """Where the keys of S sequences lie in the blocks of one group of layers.

    Attributes:
        write (T,): the slot of each new token.
        blocks (S, most): the blocks of each sequence in the order of its positions, and behind them anything.
        lengths (S,): how many positions there are in them after this step.
        seen (S,): how many of the last of them a query may see.
    """

    write: NDArray[np.int64]
    blocks: NDArray[np.int32]
    lengths: NDArray[np.int32]
    seen: NDArray[np.int64]
    block_size: int

    def take(self, other: "Pages") -> None:
        """Have the numbers of other pages (mutates), of as many tokens and sequences, and no more blocks.

        But for `seen`, which only those ask for who gather keys: a recorded step does not.
        """
        self.write[:] = other.write
        self.blocks[:, : other.blocks.shape[1]] = other.blocks
        self.lengths[:] = other.lengths


@dataclass(eq=False)
class Layout:
    """A step of T tokens in S sequences, as numbers.

    One that decodes its 6th token beside one that prefills 3: positions 5 | 0 1 2, sequence_lengths 6 | 3 3 3. Each id
    of a draft is a sequence for itself, as it will be if it is chosen, so that the kernel of decoding takes it.

    Attributes:
        tokens, positions, sequence_lengths (T,): the ids, where each stands, and how long its sequence is then.
        starts, num_new (S,): where the new tokens of each sequence begin, and how many there are.
        state_slots (S,): where recurrent states are kept.
        pages: for each group of layers.
    """

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    sequence_lengths: NDArray[np.int64]
    starts: Sequence[int]
    num_new: Sequence[int]
    state_slots: Sequence[int | None]
    pages: Sequence[Pages]

    @property
    def num_blocks(self) -> int:
        """The most that a sequence has in any group."""
        return max((pages.blocks.shape[1] for pages in self.pages), default=0)

    def with_room(self, num_blocks: int) -> "Layout":
        """The same step with room for so many blocks of each sequence; what is not of blocks is shared."""
        pages = [
            replace(p, blocks=np.pad(p.blocks, ((0, 0), (0, num_blocks - p.blocks.shape[1]))))
            for p in self.pages
        ]
        return replace(self, pages=pages)

    def take(self, other: "Layout") -> None:
        """Have the numbers of another step (mutates), of as many tokens and sequences, and no more blocks.

        But for `starts`, `num_new` and `state_slots`: recurrent layers alone ask for them, and are not recorded.
        """
        self.tokens[:] = other.tokens
        self.positions[:] = other.positions
        self.sequence_lengths[:] = other.sequence_lengths
        for own, new in zip(self.pages, other.pages, strict=True):
            own.take(new)


def lay_out(counts: Counts, groups: Sequence[Group]) -> Layout:
    """The next `counts` pending ids of each generation, those of its draft included.

    >>> from malmoi.engine import Request
    >>> group = Group(num_blocks=8, block_size=4, tokens_per_step=6)
    >>> generation = Generation(Request(tokens=[7, 8, 9, 7, 8, 9]))
    >>> generation.num_computed, generation.tables = 5, [Table(blocks=[7, 2])]
    >>> layout = lay_out({generation: 1}, [group])
    >>> layout.tokens, layout.positions, layout.pages[0].write
    (array([9]), array([5]), array([9]))
    """
    spans = [span for generation, count in counts.items() for span in _spans(generation, count)]
    owners, starts, num_new = zip(*spans, strict=True)
    ends = [start + count for start, count in zip(starts, num_new, strict=True)]
    tokens = ((*g.ids[g.num_computed : g.num_computed + count], *g.draft) for g, count in counts.items())
    sequences, positions = np.arange(len(owners)).repeat(num_new), _end_to_end(map(range, starts, ends))
    lengths = np.array(ends)
    pages = [
        _source_pages(group, number, owners)
        if group.is_of_source
        else _pages(group, [g.tables[number] for g in owners], sequences, positions, lengths, num_new)
        for number, group in enumerate(groups)
    ]
    return Layout(
        tokens=_end_to_end(tokens),
        positions=positions,
        sequence_lengths=lengths[sequences],
        starts=starts,
        num_new=num_new,
        state_slots=[generation.state_slot for generation in owners],
        pages=pages,
    )


def model_inputs(
    layout: Layout,
    send: Send,
    *,
    groups: Sequence[Group],
    kinds: Sequence[Kind | None],
    pools: Sequence[PagedCache | StatePool],
    source: Tensor | None = None,
    splice: Splice | None = None,
) -> tuple[Tensor, Context]:
    """The tokens (1, T) and the context of a step, of what `send` makes of its numbers.

    `source` are the states of the sources that are new, `splice` what stands in the place of tokens.
    """
    offsets = _offsets(layout.num_new)
    steps: dict[Kind | None, Any] = {
        group.kind: PagedStep(
            write=send(pages.write),
            query_offsets=offsets,
            key_offsets=_offsets(pages.seen),
            blocks=BlockTables(send(pages.blocks), send(pages.lengths), pages.block_size),
        )
        for group, pages in zip(groups, layout.pages, strict=True)
    }
    if None in kinds:  # a state that was preempted begins again
        steps[None] = StateStep(
            slots=send(np.array(layout.state_slots)),
            is_new=send(np.array(layout.starts) == 0),
            offsets=offsets,
        )
    context = Context(
        positions=send(layout.positions)[None],
        sequence_lengths=send(layout.sequence_lengths)[None],
        caches=[pool.at(steps[kind]) for kind, pool in zip(kinds, pools, strict=True)],
        source=source,
        splice=splice,
    )
    return send(layout.tokens)[None], context


def send_to(device: torch.device, numbers: NDArray[Any]) -> Tensor:
    """A tensor of them; on the CPU it has the array's own memory."""
    return torch.from_numpy(numbers).to(device)


def kind_of(spec: CacheSpec) -> Kind | None:
    """Which group a layer belongs to; None: it keeps a state."""
    return (spec.window, spec.is_of_source) if isinstance(spec, KeyValueSpec) else None


def splice_of(counts: Counts, *, dtype: torch.dtype, device: torch.device) -> Splice | None:
    """The part of each attachment that stands among this step's tokens; None without any."""
    is_placeholder, features = [], []
    for generation, count in counts.items():
        start, end = generation.num_computed, generation.num_computed + count
        here = [False] * count
        for attachment in generation.request.attachments:
            first, last = max(attachment.start, start), min(attachment.end, end)
            if first < last:
                here[first - start : last - start] = [True] * (last - first)
                part = attachment.features[first - attachment.start : last - attachment.start]
                features.append(part.to(device, dtype))
        is_placeholder += here
    if not features:
        return None
    return Splice(torch.tensor([is_placeholder], device=device), torch.cat(features))


def _source_pages(group: Group, number: int, owners: Sequence[Generation]) -> Pages:
    """Those of the sources: all of one that is read in this step is new, nothing of the others."""
    num_new = [generation.num_source_pending for generation in owners]
    positions = _end_to_end(map(range, num_new))
    lengths = np.array([len(generation.request.source or ()) for generation in owners])
    tables = [generation.tables[number] for generation in owners]
    return _pages(group, tables, np.arange(len(owners)).repeat(num_new), positions, lengths, num_new)


def _pages(
    group: Group,
    tables: Sequence[Table],
    sequences: NDArray[np.int64],
    positions: NDArray[np.int64],
    lengths: NDArray[np.int64],
    num_new: Sequence[int],
) -> Pages:
    """Those of sequences that have `lengths` after this step; each new token has a place in one of `sequences`."""
    size = group.block_size
    blocks = np.zeros((len(tables), max(len(table.blocks) for table in tables)), dtype=np.int32)
    for row, table in zip(blocks, tables, strict=True):
        row[: len(table.blocks)] = table.blocks
    begins = np.array([table.first for table in tables]) * size  # the first position in each table
    block, place = np.divmod(positions - begins[sequences], size)
    lengths = lengths - begins
    return Pages(
        write=blocks[sequences, block].astype(np.int64) * size + place,
        blocks=blocks,
        lengths=lengths.astype(np.int32),
        seen=lengths if group.window is None else np.minimum(lengths, np.add(num_new, group.window - 1)),
        block_size=size,
    )


def _spans(generation: Generation, count: int) -> list[tuple[Generation, int, int]]:
    """Where its ids of this step begin and how many there are; with a draft, one at a time."""
    start = generation.num_computed
    if generation.draft:
        return [(generation, place, 1) for place in range(start, start + count)]
    return [(generation, start, count)]


def _end_to_end(parts: Iterable[Iterable[int]]) -> NDArray[np.int64]:
    return np.fromiter(chain.from_iterable(parts), dtype=np.int64)


def _offsets(lengths: Sequence[int] | NDArray[np.int64]) -> Tensor:
    """Where each of some neighbours begins, and where the last ends."""
    return torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]))
