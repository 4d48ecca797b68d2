"""Which requests run in this step, and how many tokens of each. No tensors here, only counting.

One rule for everything: each generation has ids that the model has not seen (`num_pending`); a step shows the
model some of them. Prompts are long stretches of them, shown in chunks; decoding is one at a time; a preempted
generation is a prompt again (Agrawal et al. 2023, arXiv:2308.16369, section 4). Read next: `runner.py`.
"""

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from malmoi.core.errors import RequestError
from malmoi.engine.blocks import BlockPool, Table
from malmoi.engine.groups import Group, find_prefix
from malmoi.engine.prefix import extend_keys
from malmoi.engine.request import Choice, Failure, FinishReason, Generation, Outcome, Request
from malmoi.engine.speculate import DraftCounts, Drafter

PIECE = 128
"""A prompt is shown in pieces of so many tokens where what is computed must not depend on what else runs."""
PATIENCE = 500
"""How many steps a level of priority is worth."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a step does.

    `counts`: how many pending ids of which generation the model sees, and of its draft all. Before that, `copies` have
    to be made: in each group of layers, block -> the one whose content it takes over; `state_copies` are slots of
    states.
    """

    counts: dict[Generation, int] = field(default_factory=dict)
    copies: list[dict[int, int]] = field(default_factory=list)
    state_copies: dict[int, int] = field(default_factory=dict)

    @property
    def is_decoding(self) -> bool:
        """Whether everybody shows one id and its draft."""
        return all(count == 1 + len(generation.draft) for generation, count in self.counts.items())


def _rank(generation: Generation) -> tuple[int, int]:
    return generation.rank


class Scheduler:
    """By priority, then first come, first served; the only place that changes a `Generation`.

    Everything goes by rank: a request of priority p is treated as if it had come p * `PATIENCE` steps later. So urgent
    ones overtake, and nobody starves: only those overtake a request that come within so many steps after it.

    A generation is admitted when there are blocks for what it has to show first, and takes more whenever it outgrows
    them. If there are none left, the running one of the highest rank gives all of its blocks back and waits, to be
    computed again; so it does for a request of lower rank that finds no room. Those that run are therefore always the
    first by rank. The first of all is never preempted and always fits alone, so it ends; then the next is the first.

    What was computed stays findable by its content until the memory is needed. Whoever begins, or begins again, takes
    over the longest beginning that is there, but for the last of its ids, whose logits it needs.

    Decoding goes before prompts, so a long prompt never holds up the answers that are being written.

    Whoever runs also owns one slot for the states of recurrent layers; there are as many as may run at a time.

    With `has_fixed_pieces` it shows the ids of a generation in the same pieces whatever else runs (`_num_shown`); then
    a step must have room for a `PIECE` beside a token of every request.

    A source is read whole, in the first step of its generation and beside its first ids, and its keys and values stay
    in a group of their own. `check` lets in no source that could find no room beside decoding, so it waits for prompts
    before it, never for ever.

    >>> scheduler = Scheduler(
    ...     groups=[Group(num_blocks=8, block_size=4, tokens_per_step=6)],
    ...     tokens_per_step=6, max_requests=4, context_length=32,
    ... )
    >>> a = scheduler.add(Request(tokens=[1, 2]))
    >>> scheduler.update(scheduler.schedule(), {a: [Choice(7)]})
    >>> b = scheduler.add(Request(tokens=[1, 2, 3, 4, 5, 6, 7, 8, 9]))
    >>> list(scheduler.schedule().counts.values())     # a decodes one token beside the first five of b
    [1, 5]
    """

    def __init__(
        self,
        *,
        groups: Sequence[Group],
        tokens_per_step: int,
        max_requests: int,
        context_length: int,
        source_length: int = 0,
        has_prefix_cache: bool = True,
        has_fixed_pieces: bool = False,
    ) -> None:
        self.groups = tuple(groups)
        self.tokens_per_step = tokens_per_step
        self.max_requests = max_requests
        self.context_length = context_length
        self.source_length = source_length  # the longest that the encoder takes; 0: there is no encoder
        self.has_prefix_cache = has_prefix_cache and bool(groups)
        self.has_fixed_pieces = has_fixed_pieces
        self.length_limit = min(
            [context_length, *(g.room_for(context_length) for g in groups if not g.is_of_source)]
        )
        self.state_slots = BlockPool(max_requests)
        self.running: list[Generation] = []  # by rank, as those that wait
        self.waiting: list[Generation] = []
        self.drafts = DraftCounts()
        self._num_steps = self._num_added = 0
        self._state_copies: dict[int, int] = {}

    @property
    def num_blocks_in_use(self) -> int:
        """Of all groups together; what is only findable is not in use."""
        return sum(group.pool.num_in_use for group in self.groups)

    def check(self, request: Request) -> None:
        """Raise RequestError if `request` could never be served."""
        length = len(request.tokens)
        if length == 0:
            raise RequestError("the prompt is empty. Give at least one token.")
        for limit, what in (
            (self.context_length, "the model's context"),
            (self.length_limit, "the cache (the engine's cache_bytes)"),
        ):
            if length >= limit:
                raise RequestError(
                    f"the prompt has {length} tokens, but {what} has room for {limit}, the answer included. "
                    f"Shorten the prompt to {limit - 1} tokens or fewer."
                )
        if type(request.priority) is not int:
            raise RequestError(
                f"priority={request.priority!r} is no whole number. Give one; lower goes first."
            )
        _check_attachments(request)
        self._check_source(request.source)

    def _check_source(self, source: Sequence[int] | None) -> None:
        if not self.source_length:
            if source is not None:
                raise RequestError("this model has no encoder to read a source. Put it into the prompt.")
            return
        if not source:
            raise RequestError(
                "this model's encoder has nothing to read. Give a source of at least one token."
            )
        for limit, what in (
            (self.source_length, "the model's encoder"),
            *(
                (g.room_for(len(source)), "the cache (the engine's cache_bytes)")
                for g in self.groups
                if g.is_of_source
            ),
            (self.tokens_per_step - self.max_requests, "a step (the engine's tokens_per_step)"),
        ):
            if len(source) > limit:
                raise RequestError(
                    f"the source has {len(source)} tokens, but {what} has room for {limit}. Shorten it."
                )

    def add(self, request: Request) -> Generation:
        """Queue a request that `check` has let in."""
        arrival = self._num_steps + PATIENCE * request.priority
        generation, *siblings = (
            Generation(request, rank=(arrival, self._num_added + index), index=index)
            for index in range(request.params.n)
        )
        self._num_added += request.params.n
        generation.siblings = siblings
        insort(self.waiting, generation, key=_rank)
        return generation

    def adopt(self, generation: Generation) -> None:
        """Queue a generation that has already come some way: a prompt, as one that was preempted is."""
        generation.rank = (self._num_steps, self._num_added)
        self._num_added += 1
        insort(self.waiting, generation, key=_rank)

    def abort(self, generation: Generation) -> None:
        """End a generation now and free its blocks, and with it the siblings that wait for its prompt.

        One that has ended stays as it is.
        """
        if generation.finish_reason is None:
            for sibling in generation.unborn:
                self._finish(sibling, "abort")
            self._finish(generation, "abort")

    def schedule(self) -> Plan:
        """What the model sees now. Mutates: blocks change hands."""
        self._num_steps += 1
        copies: list[dict[int, int]] = [{} for _ in self.groups]
        self._grow(copies)
        self._admit()
        room = self.tokens_per_step
        counts = {}
        for generation in sorted(self.running, key=lambda g: g.num_pending + g.num_source_pending > 1):
            count = self._num_shown(generation, room - generation.num_source_pending)
            if count > 0:
                counts[generation] = count
                room -= count + generation.num_source_pending
        state_copies, self._state_copies = self._state_copies, {}
        return Plan(counts=counts, copies=copies, state_copies=state_copies)

    def update(
        self,
        plan: Plan,
        outcomes: Mapping[Generation, Sequence[Outcome]],
        scores: Mapping[Generation, Sequence[Choice]] = MappingProxyType({}),
    ) -> None:
        """Note what a step did: ids were computed, and tokens chosen where none was left pending, or could not be.

        The first outcome of a generation is its next token; the others stand behind the ids of its draft, and count as
        long as each id is the token that was chosen before it.

        `scores` are of the tokens of prompts behind those that were computed, where they were asked for.
        """
        for generation, new in scores.items():
            generation.prompt_choices[generation.num_computed :] = new
        for generation, count in plan.counts.items():
            draft, generation.draft = generation.draft, []
            first, *further = outcomes.get(generation, (None,))
            self._count(generation, count - len(draft), first)
            siblings = [g for g in generation.unborn if g in outcomes]
            for sibling in siblings:
                self._fork(generation, sibling)
            self._take(generation, first)
            for sibling in siblings:
                self._take(sibling, outcomes[sibling][0])
            for token, outcome in zip(draft, further, strict=True):
                if generation.finish_reason is not None or generation.ids[-1] != token:
                    break
                self.drafts.num_accepted += 1
                self._count(generation, 1, outcome)
                self._take(generation, outcome)
            for group, table in zip(self.groups, generation.tables, strict=False):  # none if it has ended
                if draft and not group.is_of_source:
                    group.cut(table, generation.num_computed)
                group.roll(table, generation.num_computed)

    def draft(self, plan: Plan, drafter: Drafter) -> None:
        """Let those that decode show what `drafter` guesses, too, as far as there is room (mutates plan and blocks).

        Nobody gives way for a guess: it gets what is left of the step's tokens and of the blocks, and `update` gives
        back the blocks that it did not need.
        """
        limits = {}
        for generation, count in plan.counts.items():
            if count == generation.num_pending == 1 and generation.choices:
                max_tokens = generation.request.params.max_tokens
                limit = self.length_limit - len(generation.ids) - 1  # behind the last id one more is chosen
                if max_tokens is not None:
                    limit = min(limit, max_tokens - len(generation.choices) - 1)
                if limit > 0:
                    limits[generation] = limit
        room = self.tokens_per_step - sum(count + g.num_source_pending for g, count in plan.counts.items())
        if not limits or room <= 0:
            return
        guesses = drafter.propose({generation: min(limit, room) for generation, limit in limits.items()})
        for generation, guess in guesses.items():
            tables = [
                (group, table)
                for group, table in zip(self.groups, generation.tables, strict=True)
                if not group.is_of_source
            ]
            extensible = [group.num_extensible(generation, table) for group, table in tables]
            generation.draft = list(guess[: min(limits[generation], room, *extensible)])
            if generation.draft:
                for group, table in tables:
                    group.extend(table, len(generation.ids) + len(generation.draft))
                plan.counts[generation] = 1 + len(generation.draft)
                room -= len(generation.draft)
                self.drafts.num_proposed += len(generation.draft)

    def preempt_all(self) -> None:
        """Make every generation compute its cache again, but for what is findable in it."""
        while self.running:
            self._preempt(self.running[-1])
        self._state_copies = {}

    def forget(self) -> None:
        """Make every generation compute all of its cache again: what is in it is no longer true."""
        self.preempt_all()
        for group in self.groups:
            group.pool.forget()

    def _num_shown(self, generation: Generation, room: int) -> int:
        """How many pending ids are shown where there is room for so many.

        In fixed pieces each id is always shown beside the same ones: those of the prompt up to the next multiple of
        `PIECE`, those behind it one at a time, also where they are shown again. A piece that does not fit waits.
        """
        if not self.has_fixed_pieces:
            return min(generation.num_pending, room)
        begin, num_prompt = generation.num_computed, len(generation.request.tokens)
        piece = min(PIECE - begin % PIECE, num_prompt - begin) if begin < num_prompt else 1
        return piece if piece <= room else 0

    def _grow(self, copies: list[dict[int, int]]) -> None:
        for generation in list(self.running):
            while generation in self.running and not self._extend(generation, copies):
                self._preempt(self.running[-1])

    def _extend(self, generation: Generation, copies: list[dict[int, int]]) -> bool:
        """Give a generation what it lacks for its next step, if all of it is there.

        Into a block that others hold, too, it must not write: it gets a copy, and they keep the block.
        """
        tables = list(zip(self.groups, generation.tables, strict=True))
        places = [group.shared_place(generation, table) for group, table in tables]
        missing = [group.num_missing(generation, table) for group, table in tables]
        if any(
            count + (place is not None) > group.pool.num_free
            for count, place, group in zip(missing, places, self.groups, strict=True)
        ):
            return False
        for (group, table), place, count, copy in zip(tables, places, missing, copies, strict=True):
            if place is not None:
                [own] = group.pool.allocate(1)
                copy[own] = table.blocks[place]
                group.pool.free([table.blocks[place]])
                table.blocks[place] = own
            table.blocks += group.pool.allocate(count)
        return True

    def _admit(self) -> None:
        while self.waiting:
            first = self.waiting[0]
            if len(self.running) < self.max_requests and self._begin(first):
                del self.waiting[0]
                insort(self.running, first, key=_rank)
            elif self.running and self.running[-1].rank > first.rank:
                self._preempt(self.running[-1])
            else:
                break

    def _begin(self, generation: Generation) -> bool:
        """Give a generation its first blocks, if all are there: those found in the cache, and those it lacks."""
        generation.num_computed, generation.tables = self._find_prefix(generation)
        tables = list(zip(self.groups, generation.tables, strict=True))
        missing = [group.num_missing(generation, table) for group, table in tables]
        if any(
            count + sum(map(group.pool.is_free, table.blocks)) > group.pool.num_free
            for count, (group, table) in zip(missing, tables, strict=True)
        ):
            generation.num_computed, generation.tables = 0, []
            return False
        for count, (group, table) in zip(missing, tables, strict=True):
            group.pool.share(table.blocks)
            table.blocks += group.pool.allocate(count)
        [generation.state_slot] = self.state_slots.allocate(1)
        if not generation.choices:
            generation.num_cached = generation.num_computed
        return True

    def _find_prefix(self, generation: Generation) -> tuple[int, list[Table]]:
        if not self.has_prefix_cache or generation.is_scoring:
            return 0, [Table() for _ in self.groups]
        block_size = self.groups[0].block_size
        extend_keys(generation.keys, generation.request, generation.ids, block_size=block_size)
        num_blocks, tables = find_prefix(
            self.groups, generation.keys[: (len(generation.ids) - 1) // block_size]
        )
        return num_blocks * block_size, tables

    def _count(self, generation: Generation, num_new: int, outcome: Outcome | None) -> None:
        """So many more ids are computed; what came of it says whether others may use them."""
        generation.num_computed += num_new
        if self.has_prefix_cache and not isinstance(outcome, Failure):
            self._remember(generation, num_new)

    def _remember(self, generation: Generation, num_new: int) -> None:
        """Make the blocks findable that the last `num_new` ids have filled."""
        block_size = self.groups[0].block_size
        filled = range(
            (generation.num_computed - num_new) // block_size, generation.num_computed // block_size
        )
        if not filled:
            return
        extend_keys(generation.keys, generation.request, generation.ids, block_size=block_size)
        for group, table in zip(self.groups, generation.tables, strict=True):
            for number in filled:
                group.pool.remember(table.blocks[number - table.first], generation.keys[number])

    def _fork(self, generation: Generation, sibling: Generation) -> None:
        """Let `sibling` go on from where `generation` is, with the same blocks; without room, from the beginning."""
        sibling.num_cached, sibling.keys = generation.num_cached, list(generation.keys)
        sibling.prompt_choices = generation.prompt_choices
        if len(self.running) == self.max_requests:
            insort(self.waiting, sibling, key=_rank)
            return
        sibling.num_computed = generation.num_computed
        for group, table in zip(self.groups, generation.tables, strict=True):
            group.pool.share(table.blocks)
            sibling.tables.append(Table(table.first, list(table.blocks)))
        [sibling.state_slot] = self.state_slots.allocate(1)
        assert generation.state_slot is not None, "it runs"
        self._state_copies[sibling.state_slot] = generation.state_slot
        insort(self.running, sibling, key=_rank)

    def _take(self, generation: Generation, outcome: Outcome | None) -> None:
        if isinstance(outcome, Failure):
            generation.error = outcome.message
            self._finish(generation, "error")
        elif outcome is not None:
            generation.append(outcome)
            if reason := self._finish_reason(generation):
                self._finish(generation, reason)

    def _preempt(self, generation: Generation) -> None:
        self._release(generation)
        generation.num_computed = 0
        insort(self.waiting, generation, key=_rank)

    def _finish(self, generation: Generation, reason: FinishReason) -> None:
        generation.finish_reason = reason
        if generation in self.waiting:
            self.waiting.remove(generation)
        self._release(generation)

    def _release(self, generation: Generation) -> None:
        for group, table in zip(self.groups, generation.tables, strict=False):  # none if it does not run
            group.pool.free(table.blocks)
        generation.tables, generation.draft = [], []
        if generation.state_slot is not None:
            self.state_slots.free([generation.state_slot])
            generation.state_slot = None
        if generation in self.running:
            self.running.remove(generation)

    def _finish_reason(self, generation: Generation) -> FinishReason | None:
        params = generation.request.params
        if generation.ids[-1] in generation.request.stop_ids and not params.ignore_eos:
            return "stop"
        is_full = len(generation.ids) >= self.length_limit
        return "length" if is_full or len(generation.choices) == params.max_tokens else None


def _check_attachments(request: Request) -> None:
    free_from = 0
    for attachment in request.attachments:
        if type(attachment.start) is not int:
            raise RequestError(
                f"an attachment starts at {attachment.start!r}. Give the number of a token, an int."
            )
        if not free_from <= attachment.start < attachment.end <= len(request.tokens):
            raise RequestError(
                f"an attachment is to stand at the tokens {attachment.start} to {attachment.end - 1}, but there are "
                f"{len(request.tokens)} tokens, and those before {free_from} are taken. Give attachments in order, "
                "each as many features as it has places."
            )
        free_from = attachment.end
