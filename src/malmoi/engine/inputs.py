"""What one step shows to the model: the tokens of all generations end to end, and for each layer where its keys lie.

Places are counted in NumPy; nothing is run here, and nothing stored. Place in the flow: scheduler -> how many ids of
each generation -> INPUTS -> `runner.py`, which runs the model on them.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
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


def step_inputs(
    counts: Counts,
    *,
    groups: Sequence[Group],
    kinds: Sequence[Kind | None],
    pools: Sequence[PagedCache | StatePool],
    source: Tensor | None,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Context]:
    """This step's tokens, where each one stands, and what is cached of those before.

    One that decodes its 6th token beside one that prefills 3: positions 5 | 0 1 2, lengths 6 | 3 3 3. Each id of a
    draft stands for itself, as it will if it is chosen, so that the kernel of decoding takes it. `source` are the
    states of the sources that are new; attachments are spliced in, in `dtype`.
    """
    spans = list(chain.from_iterable(_spans(generation, count) for generation, count in counts.items()))
    owners = [generation for generation, _, _ in spans]
    starts, new = (np.array([span[part] for span in spans]) for part in (1, 2))
    offsets = _offsets(new)
    tokens = list(
        chain.from_iterable(
            (*g.ids[g.num_computed : g.num_computed + count], *g.draft) for g, count in counts.items()
        )
    )
    steps: dict[Kind | None, Any] = {
        group.kind: _source_step(group, number, owners, offsets, device)
        if group.is_of_source
        else _paged_step(group, [g.tables[number] for g in owners], starts, new, offsets, device)
        for number, group in enumerate(groups)
    }
    if None in kinds:
        steps[None] = _state_step(owners, offsets, device)
    context = Context(
        positions=torch.from_numpy(_places(starts, new))[None].to(device),
        sequence_lengths=torch.from_numpy((starts + new).repeat(new))[None].to(device),
        caches=[pool.at(steps[kind]) for kind, pool in zip(kinds, pools, strict=True)],
        source=source,
        splice=_splice(counts, dtype, device),
    )
    return torch.tensor([tokens], device=device), context


def kind_of(spec: CacheSpec) -> Kind | None:
    """Which group a layer belongs to; None: it keeps a state."""
    return (spec.window, spec.is_of_source) if isinstance(spec, KeyValueSpec) else None


def _splice(counts: Counts, dtype: torch.dtype, device: torch.device) -> Splice | None:
    """The part of each attachment that stands among this step's tokens; None without any."""
    if not any(generation.request.attachments for generation in counts):
        return None
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


def _source_step(
    group: Group, number: int, owners: Sequence[Generation], offsets: Tensor, device: torch.device
) -> PagedStep:
    """As `_paged_step`, of the sources: all of one that is read in this step is new, nothing of the others."""
    new = np.array([generation.num_source_pending for generation in owners])
    lengths = np.array([len(generation.request.source or ()) for generation in owners])
    tables = [generation.tables[number] for generation in owners]
    return _paged_step(group, tables, lengths - new, new, offsets, device)


def _paged_step(
    group: Group,
    tables: Sequence[Table],
    starts: np.ndarray,
    new: np.ndarray,
    offsets: Tensor,
    device: torch.device,
) -> PagedStep:
    """Where all keys that are seen lie, and where those of each sequence's `new` tokens from `starts` on go."""
    size = group.block_size
    firsts = np.array([table.first for table in tables])
    blocks = np.zeros((len(tables), max(len(table.blocks) for table in tables)), dtype=np.int32)
    for row, table in zip(blocks, tables, strict=True):
        row[: len(table.blocks)] = table.blocks
    begin = starts - firsts * size  # counted from the first position in the table
    end = begin + new
    sequence, place = np.arange(len(tables)).repeat(new), _places(begin, new)
    write = blocks[sequence, place // size].astype(np.int64) * size + place % size
    seen = end if group.window is None else np.minimum(end, new + group.window - 1)
    return PagedStep(
        write=torch.from_numpy(write).to(device),
        query_offsets=offsets,
        key_offsets=_offsets(seen),
        blocks=BlockTables(
            torch.from_numpy(blocks).to(device), torch.from_numpy(end.astype(np.int32)).to(device), size
        ),
    )


def _state_step(owners: Sequence[Generation], offsets: Tensor, device: torch.device) -> StateStep:
    """The slots of the step's states; one that was preempted begins again."""
    return StateStep(
        slots=torch.tensor([generation.state_slot for generation in owners], device=device),
        is_new=torch.tensor([generation.num_computed == 0 for generation in owners], device=device),
        offsets=offsets,
    )


def _spans(generation: Generation, count: int) -> list[tuple[Generation, int, int]]:
    """Where its ids of this step begin and how many there are; with a draft, one at a time."""
    start = generation.num_computed
    if generation.draft:
        return [(generation, place, 1) for place in range(start, start + count)]
    return [(generation, start, count)]


def _offsets(lengths: np.ndarray) -> Tensor:
    """Where each of some neighbours begins, and where the last ends."""
    return torch.from_numpy(np.concatenate([[0], lengths.cumsum()]))


def _places(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """From each start, as many numbers as its length says, end to end: from 5 one and from 0 three are 5 0 1 2."""
    ends = lengths.cumsum()
    places: np.ndarray = np.arange(ends[-1]) + (starts - (ends - lengths)).repeat(lengths)
    return places
