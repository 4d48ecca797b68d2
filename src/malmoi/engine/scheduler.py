"""Which requests run in this step, and how many tokens of each. No tensors here, only counting.

One rule for everything: each generation has ids that the model has not seen (`num_pending`); a step shows the
model some of them. Prompts are long stretches of them, shown in chunks; decoding is one at a time; a preempted
generation is a prompt again (Agrawal et al. 2023, arXiv:2308.16369, section 4). Read next: `runner.py`.
"""

from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from malmoi.engine.admission import Admission
from malmoi.engine.groups import Group
from malmoi.engine.holdings import Holdings
from malmoi.engine.request import Choice, Continuations, Failure, FinishReason, Generation, Outcome, Request
from malmoi.engine.search import BeamSearch, Step
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
    def has_copies(self) -> bool:
        return any(self.copies) or bool(self.state_copies)

    @property
    def is_decoding(self) -> bool:
        """Whether somebody runs, and everybody shows one id and its draft."""
        counts = self.counts.items()
        return bool(counts) and all(count == 1 + len(generation.draft) for generation, count in counts)


def _rank(generation: Generation) -> tuple[int, int]:
    return generation.rank


class Scheduler:
    """By priority, then first come, first served; the only place that changes a `Generation`.

    Everything goes by rank: a request of priority p is treated as if it had come p * `PATIENCE` steps later. So urgent
    ones overtake, and nobody starves: only those overtake a request that come within so many steps after it.

    A generation is admitted when there are blocks for what it has to show first, and takes more whenever it outgrows
    them (`Holdings`). If there are none left, the running one of the highest rank gives all of its blocks back and
    waits, to be computed again; so it does for a request of lower rank that finds no room. Those that run are therefore
    always the first by rank. The first of all is never preempted and always fits alone, so it ends; then the next is
    the first.

    Whoever begins, or begins again, takes over the longest beginning that is in the cache, but for the last of its ids,
    whose logits it needs.

    Decoding goes before prompts, so a long prompt never holds up the answers that are being written.

    A beam is scheduled as any other generation, and then waits, without a token to show, until all beams of its search
    have come as far. All of them have one rank, and fit when they are alone, so the first search goes on.

    With `has_fixed_pieces` it shows the ids of a generation in the same pieces whatever else runs (`_num_shown`); then
    a step must have room for a `PIECE` beside a token of every request.

    A source is read whole, in the first step of its generation and beside its first ids, and its keys and values stay
    in a group of their own. `admission` lets in no source that could find no room beside decoding, so it waits for
    prompts before it, never for ever.

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
        self.tokens_per_step = tokens_per_step
        self.max_requests = max_requests
        self.has_fixed_pieces = has_fixed_pieces
        self.admission = Admission(
            groups=tuple(groups),
            tokens_per_step=tokens_per_step,
            max_requests=max_requests,
            context_length=context_length,
            source_length=source_length,
        )
        self.length_limit = self.admission.length_limit()
        self.holdings = Holdings(groups, num_slots=max_requests, has_prefix_cache=has_prefix_cache)
        self.running: list[Generation] = []  # by rank, as those that wait
        self.waiting: list[Generation] = []
        self.drafts = DraftCounts()
        self._num_steps = self._num_added = 0

    @property
    def num_blocks_in_use(self) -> int:
        return self.holdings.num_blocks_in_use

    def add(self, request: Request) -> Generation:
        """Queue a request that `admission` has let in."""
        arrival = self._num_steps + PATIENCE * request.priority
        generation, *siblings = (
            Generation(request, rank=(arrival, self._num_added + index), index=index)
            for index in range(request.params.n)
        )
        self._num_added += request.params.n
        generation.siblings = siblings
        first = generation
        if (num_beams := request.params.beam_width) > 1:
            room = self.admission.length_limit(num_beams=num_beams) - len(request.tokens)
            generation.search = BeamSearch(
                [generation, *siblings], max_tokens=min(room, request.params.max_tokens or room)
            )
            [first] = generation.beams
        insort(self.waiting, first, key=_rank)
        return generation

    def adopt(self, generation: Generation) -> None:
        """Queue a generation that has already come some way: a prompt, as one that was preempted is."""
        generation.rank = (self._num_steps, self._num_added)
        self._num_added += 1
        insort(self.waiting, generation, key=_rank)

    def abort(self, generation: Generation) -> None:
        """End a generation now and free its blocks, and with it the siblings that wait for its prompt, or its search.

        One that has ended stays as it is.
        """
        if generation.finish_reason is None:
            for one in (*generation.unborn, *generation.beams, generation):
                self._finish(one, "abort")

    def schedule(self) -> Plan:
        """What the model sees now. Mutates: blocks change hands."""
        self._num_steps += 1
        self._grow()
        self._admit()
        room = self.tokens_per_step
        counts = {}
        for generation in sorted(self.running, key=lambda g: g.num_pending + g.num_source_pending > 1):
            count = self._num_shown(generation, room - generation.num_source_pending)
            if count > 0:
                counts[generation] = count
                room -= count + generation.num_source_pending
        copies, state_copies = self.holdings.take_copies()
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
            if generation.finish_reason is not None:  # a beam whose search has just failed with another
                continue
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
            if generation.finish_reason is None:
                self.holdings.trim(generation, has_drafted=bool(draft))

    def draft(self, plan: Plan, drafter: Drafter) -> None:
        """Let those that decode show what `drafter` guesses, too, as far as there is room (mutates plan and blocks).

        Nobody gives way for a guess: it gets what is left of the step's tokens and of the blocks, and `update` gives
        back the blocks that it did not need. A beam has none.
        """
        limits = {}
        for generation, count in plan.counts.items():
            if count == generation.num_pending == 1 and generation.choices and generation.search is None:
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
            length = self.holdings.extend_for_draft(generation, min(len(guess), limits[generation], room))
            if length > 0:
                generation.draft = list(guess[:length])
                plan.counts[generation] = 1 + length
                room -= length
                self.drafts.num_proposed += length

    def preempt_all(self) -> None:
        """Make every generation compute its cache again, but for what is findable in it."""
        while self.running:
            self._preempt(self.running[-1])
        self.holdings.take_copies()  # nobody is left to whom they belong

    def forget(self) -> None:
        """Make every generation compute all of its cache again: what is in it is no longer true."""
        self.preempt_all()
        self.holdings.forget()

    def _num_shown(self, generation: Generation, room: int) -> int:
        """How many pending ids are shown where there is room for so many.

        In fixed pieces each id is always shown beside the same ones: those of the prompt up to the next multiple of
        `PIECE`, those behind it one at a time, also where they are shown again. A piece that does not fit waits.
        """
        if not self.has_fixed_pieces or not generation.num_pending:
            return min(generation.num_pending, room)
        begin, num_prompt = generation.num_computed, len(generation.request.tokens)
        piece = min(PIECE - begin % PIECE, num_prompt - begin) if begin < num_prompt else 1
        return piece if piece <= room else 0

    def _grow(self) -> None:
        for generation in list(self.running):
            while generation in self.running and not self.holdings.extend(generation):
                self._preempt(self.running[-1])

    def _admit(self) -> None:
        while self.waiting:
            first = self.waiting[0]
            if len(self.running) < self.max_requests and self.holdings.begin(first):
                del self.waiting[0]
                insort(self.running, first, key=_rank)
            elif self.running and self.running[-1].rank > first.rank:
                self._preempt(self.running[-1])
            else:
                break

    def _count(self, generation: Generation, num_new: int, outcome: Outcome | None) -> None:
        """So many more ids are computed; what came of it says whether others may use them."""
        generation.num_computed += num_new
        if not isinstance(outcome, Failure):
            self.holdings.remember(generation, num_new)

    def _fork(self, generation: Generation, sibling: Generation) -> None:
        """Let `sibling` go on from where `generation` is, with the same blocks; without room, from the beginning."""
        sibling.num_cached, sibling.keys = generation.num_cached, list(generation.keys)
        sibling.prompt_choices = generation.prompt_choices
        if len(self.running) == self.max_requests:
            insort(self.waiting, sibling, key=_rank)
        else:
            self.holdings.fork(generation, sibling)
            insort(self.running, sibling, key=_rank)

    def _take(self, generation: Generation, outcome: Outcome | None) -> None:
        if search := generation.search:
            if isinstance(outcome, Failure):
                self._end(search, outcome.message)
            elif isinstance(outcome, Continuations):
                generation.continuations = outcome
                if search.is_ready:
                    self._advance(search)
        elif isinstance(outcome, Failure):
            generation.error = outcome.message
            self._finish(generation, "error")
        elif isinstance(outcome, Choice):
            generation.append(outcome)
            if reason := self._finish_reason(generation):
                self._finish(generation, reason)

    def _advance(self, search: BeamSearch) -> None:
        """Let the beams go on that the search decides for; one that goes on in several ways is forked."""
        steps = search.advance()
        if not steps:
            self._end(search)
            return
        for beam in set(search.beams) - {step.beam for step in steps}:
            self._finish(beam, "abort")
        heirs: dict[Generation, Step] = {}
        for step in steps:
            heir = step.beam
            if heir in heirs:
                heir = step.beam.branch()
                self._fork(step.beam, heir)
            heirs[heir] = step
        for heir, step in heirs.items():
            heir.append(step.choice)
            heir.continuations = None
        search.beams = {heir: step.total for heir, step in heirs.items()}

    def _end(self, search: BeamSearch, error: str | None = None) -> None:
        """Hand out what was found to those who still want it; with an error, that to all."""
        for beam in search.beams:
            self._finish(beam, "abort")
        for number, answer in enumerate(search.answers):
            if answer.finish_reason is not None:
                continue
            if error is None and number < len(search.found):
                found = search.found[number]
                answer.become(found.generation)
                answer.score = found.score
                self._finish(answer, found.reason)
            else:
                answer.error = error or search.why_too_few()
                self._finish(answer, "error")

    def _preempt(self, generation: Generation) -> None:
        self.running.remove(generation)
        self.holdings.release(generation)
        generation.num_computed, generation.continuations = 0, None
        insort(self.waiting, generation, key=_rank)

    def _finish(self, generation: Generation, reason: FinishReason) -> None:
        generation.finish_reason = reason
        self.holdings.release(generation)
        for line in (self.running, self.waiting):
            if generation in line:
                line.remove(generation)

    def _finish_reason(self, generation: Generation) -> FinishReason | None:
        params = generation.request.params
        if generation.request.is_end(generation.ids[-1]):
            return "stop"
        is_full = len(generation.ids) >= self.length_limit
        return "length" if is_full or len(generation.choices) == params.max_tokens else None
