"""One forward pass for everybody: builds a step's tokens and their context, and samples from the rows that matter.

The tokens of all generations lie end to end in one row (1, T), whatever their lengths: no padding, and decoding
shares the pass with prompts (Yu et al. 2022, OSDI, section 3: "selective batching"). Read next: `sampling.py`.
"""

from collections.abc import Sequence
from itertools import accumulate, chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from malmoi.engine.blocks import Table
from malmoi.engine.groups import Group, Kind
from malmoi.engine.request import Choice, Generation, Outcome
from malmoi.engine.sampling import sample
from malmoi.engine.scheduler import Plan
from malmoi.engine.scoring import score
from malmoi.nn.cache import BlockTables, CacheSpec, KeyValueSpec, PagedCache, PagedStep
from malmoi.nn.context import Context
from malmoi.nn.splice import Splice
from malmoi.nn.stack import Decoder, EncoderDecoder
from malmoi.nn.state import StatePool, StateStep


class Runner:
    """Owns the cache's memory, in pools of the kind `paged_cache`, and calls the model.

    Who owns which block and state, the scheduler says. Not `is_batched`, every generation has a pass of its own: its
    matrices then have the same shapes whoever runs beside it, and shapes decide in which order numbers are added up.

    The weights are the model's own, never copied: what training changes, the next step uses.
    """

    def __init__(
        self,
        model: Decoder | EncoderDecoder,
        *,
        groups: Sequence[Group],
        num_state_slots: int,
        paged_cache: type[PagedCache] = PagedCache,
        is_batched: bool = True,
    ) -> None:
        self.model, self.groups, self.is_batched = model, groups, is_batched
        self.no_states = torch.empty(1, 0, 0)
        self.specs = model.cache_specs()
        memory: Any = {"dtype": model.compute_dtype or model.dtype, "device": model.device}
        num_slots = {group.kind: group.num_blocks * group.block_size for group in groups}
        self.pools = [
            paged_cache(num_slots[spec.window, spec.is_of_source], spec, **memory)
            if isinstance(spec, KeyValueSpec)
            else StatePool(num_state_slots, spec, **memory)
            for spec in self.specs
        ]

    @torch.inference_mode()
    def run(self, plan: Plan) -> tuple[dict[Generation, list[Outcome]], dict[Generation, list[Choice]]]:
        """Show the model pending ids of each generation; choose a token where none is left pending.

        Behind each id of a draft another is chosen, as it would be if the draft were right up to there.

        Siblings that have waited for a prompt get a token of their own from the same logits. A generation whose logits
        allow no choice gets a `Failure`; the others get what they get without it. The second mapping has what the model
        says of the tokens of prompts, where that was asked for.

        Writes into the cache what the model keeps of what was shown, and reads what came before.
        """
        self._copy(plan)
        outcomes: dict[Generation, list[Outcome]] = {}
        scores: dict[Generation, list[Choice]] = {}
        batches = [plan.counts] if self.is_batched else [{g: count} for g, count in plan.counts.items()]
        for batch in filter(None, batches):
            of_batch, scores_of_batch = self._forward(batch)
            outcomes |= of_batch
            scores |= scores_of_batch
        return outcomes, scores

    def _forward(
        self, counts: dict[Generation, int]
    ) -> tuple[dict[Generation, list[Outcome]], dict[Generation, list[Choice]]]:
        """One pass of the model."""
        hidden = self.model.hidden(*self._inputs(counts))[0]
        ends = list(accumulate(counts.values()))
        rows: list[int] = []
        choosing: list[Generation] = []  # as they are, or would be
        owners: list[Generation] = []
        scores = {}
        for (generation, count), end in zip(counts.items(), ends, strict=True):
            if generation.is_scoring:
                scores[generation] = self._score(generation, hidden[end - count : end])
            num_drafted = count - generation.num_pending
            if num_drafted >= 0:
                family = [generation, *generation.unborn]
                owners += family
                choosing += family
                rows += [end - 1 - num_drafted] * len(family)
                owners += [generation] * num_drafted
                choosing += islice(
                    accumulate(generation.draft, Generation.after, initial=generation), 1, None
                )
                rows += range(end - num_drafted, end)
        if not rows:  # only pieces of prompts
            return {}, scores
        each, which = np.unique(rows, return_inverse=True)
        logits = self.model.head(hidden[each])
        if len(each) < len(rows):
            logits = logits[which]
        outcomes: dict[Generation, list[Outcome]] = {owner: [] for owner in owners}
        for owner, outcome in zip(owners, sample(logits, choosing), strict=True):
            outcomes[owner].append(outcome)
        return outcomes, scores

    def _score(self, generation: Generation, hidden: Tensor) -> list[Choice]:
        """Of the tokens of a prompt that come after each of those in `hidden`."""
        start, params = generation.num_computed, generation.request.params
        tokens = generation.request.tokens[start + 1 : start + 1 + len(hidden)]
        num_top = 0 if params.prompt_logprobs is True else params.prompt_logprobs
        return score(self.model.head, hidden, tokens, num_top=num_top)

    def _copy(self, plan: Plan) -> None:
        """Let blocks and states begin as others are, before anything is written."""
        device = self.model.device
        slots: dict[Kind | None, Tensor] = {}
        for group, copies in zip(self.groups, plan.copies, strict=True):
            if copies:
                blocks = torch.tensor([list(copies), list(copies.values())])[..., None] * group.block_size
                slots[group.kind] = (blocks + torch.arange(group.block_size)).flatten(1).to(device)
        if plan.state_copies:
            slots[None] = torch.tensor(
                [list(plan.state_copies), list(plan.state_copies.values())], device=device
            )
        for spec, pool in zip(self.specs, self.pools, strict=True):
            if (kind := _kind(spec)) in slots:
                pool.copy(*slots[kind])

    def _inputs(self, counts: dict[Generation, int]) -> tuple[Tensor, Context]:
        """This step's tokens, where each one stands, and what is cached of those before.

        One that decodes its 6th token beside one that prefills 3: positions 5 | 0 1 2, lengths 6 | 3 3 3. Each id of a
        draft stands for itself, as it will if it is chosen, so that the kernel of decoding takes it.
        """
        device = self.model.device
        spans = list(chain.from_iterable(_spans(generation, count) for generation, count in counts.items()))
        owners = [generation for generation, _, _ in spans]
        starts, new = (np.array([span[part] for span in spans]) for part in (1, 2))
        offsets = _offsets(new)
        tokens = list(
            chain.from_iterable(
                (*g.ids[g.num_computed : g.num_computed + count], *g.draft) for g, count in counts.items()
            )
        )
        steps: dict[Kind | None, PagedStep] = {
            group.kind: self._source_step(number, owners, offsets)
            if group.is_of_source
            else self._paged_step(group, [g.tables[number] for g in owners], starts, new, offsets)
            for number, group in enumerate(self.groups)
        }
        states = self._state_step(owners, offsets)
        context = Context(
            positions=torch.from_numpy(_places(starts, new))[None].to(device),
            sequence_lengths=torch.from_numpy(np.repeat(starts + new, new))[None].to(device),
            caches=[
                pool.at(states) if isinstance(pool, StatePool) else pool.at(steps[_kind(spec)])
                for spec, pool in zip(self.specs, self.pools, strict=True)
            ],
            source=self._encode(self.model, counts) if isinstance(self.model, EncoderDecoder) else None,
            splice=self._splice(counts),
        )
        return torch.tensor([tokens], device=device), context

    def _splice(self, counts: dict[Generation, int]) -> Splice | None:
        """The part of each attachment that stands among this step's tokens; None without any."""
        if not any(generation.request.attachments for generation in counts):
            return None
        device, dtype = self.model.device, self.model.dtype
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

    def _encode(self, model: EncoderDecoder, counts: dict[Generation, int]) -> Tensor:
        """The encoder's states of the sources that it has not read yet; they lie end to end, as tokens do."""
        sources = [g.request.source for g in counts if g.num_source_pending and g.request.source]
        if not sources:
            return self.no_states
        device = model.device
        places = Context.packed(list(map(len, sources)), specs=model.encoder.cache_specs(), device=device)
        states = model.encode(torch.tensor([list(chain(*sources))], device=device), places)
        self.no_states = states.new_empty(1, 0, states.shape[-1])  # what a step without a new source has
        return states

    def _source_step(self, number: int, owners: Sequence[Generation], offsets: Tensor) -> PagedStep:
        """As `_paged_step`, of the sources: all of one that is read in this step is new, nothing of the others."""
        new = np.array([generation.num_source_pending for generation in owners])
        lengths = np.array([len(generation.request.source or ()) for generation in owners])
        tables = [generation.tables[number] for generation in owners]
        return self._paged_step(self.groups[number], tables, lengths - new, new, offsets)

    def _paged_step(
        self, group: Group, tables: Sequence[Table], starts: np.ndarray, new: np.ndarray, offsets: Tensor
    ) -> PagedStep:
        """Where all keys that are seen lie, and where those of each sequence's `new` tokens from `starts` on go."""
        size, device = group.block_size, self.model.device
        firsts = np.array([table.first for table in tables])
        blocks = np.zeros((len(tables), max(len(table.blocks) for table in tables)), dtype=np.int32)
        for row, table in zip(blocks, tables, strict=True):
            row[: len(table.blocks)] = table.blocks
        begin = starts - firsts * size  # counted from the first position in the table
        end = begin + new
        sequence, place = np.repeat(np.arange(len(tables)), new), _places(begin, new)
        write = blocks[sequence, place // size].astype(np.int64) * size + place % size
        seen_from = np.zeros_like(begin) if group.window is None else np.maximum(0, begin - group.window + 1)
        slots = (blocks[:, :, None] * np.int64(size) + np.arange(size)).reshape(len(tables), -1)
        column = np.arange(slots.shape[1])
        read = slots[(column >= seen_from[:, None]) & (column < end[:, None])]
        return PagedStep(
            write=torch.from_numpy(write).to(device),
            read=torch.from_numpy(read).to(device),
            query_offsets=offsets,
            key_offsets=_offsets(end - seen_from),
            blocks=BlockTables(torch.from_numpy(blocks), torch.from_numpy(end.astype(np.int32)), size),
        )

    def _state_step(self, owners: Sequence[Generation], offsets: Tensor) -> StateStep:
        """The slots of the step's states; one that was preempted begins again."""
        device = self.model.device
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


def _kind(spec: CacheSpec) -> Kind | None:
    """Which group a layer belongs to; None: it keeps a state."""
    return (spec.window, spec.is_of_source) if isinstance(spec, KeyValueSpec) else None


def _offsets(lengths: np.ndarray) -> Tensor:
    """Where each of some neighbours begins, and where the last ends."""
    return torch.from_numpy(np.concatenate([[0], lengths.cumsum()]))


def _places(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """From each start, as many numbers as its length says, end to end: from 5 one and from 0 three are 5 0 1 2."""
    ends = lengths.cumsum()
    places: np.ndarray = np.arange(lengths.sum()) + np.repeat(starts - (ends - lengths), lengths)
    return places
