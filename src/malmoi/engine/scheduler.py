"""Which requests run in this step, and how many tokens of each. No tensors here, only counting.

One rule for everything: each generation has ids that the model has not seen (`num_pending`); a step shows the
model some of them. Prompts are long stretches of them, shown in chunks; decoding is one at a time; a preempted
generation is a prompt again (Agrawal et al. 2023, arXiv:2308.16369, section 4). Read next: `runner.py`.
"""

from collections import deque
from collections.abc import Mapping, Sequence

from malmoi.core.errors import RequestError
from malmoi.engine.blocks import BlockPool
from malmoi.engine.request import Choice, Failure, FinishReason, Generation, Request


class Scheduler:
    """First come, first served; the only place that changes a `Generation`.

    A generation is admitted when the pool has blocks for all its ids, and takes one more block whenever it
    outgrows them. If there is none left, the newest generation gives all of its blocks back and waits, first in
    line, to be computed again. The oldest one is never preempted and always fits into the pool alone, so it
    ends; then the next is the oldest. Nobody starves.

    Decoding goes before prompts, so a long prompt never holds up the answers that are being written.

    Whoever runs also owns one slot for the states of recurrent layers; there are as many as may run at a time.

    A source is read whole, in the first step of its generation and beside its first ids, and its keys and values stay
    in blocks of their own. `check` lets in no source that could find no room beside decoding, so it waits for prompts
    before it, never for ever.

    >>> scheduler = Scheduler(num_blocks=8, block_size=4, tokens_per_step=6, max_requests=4, context_length=32)
    >>> a = scheduler.add(Request(tokens=[1, 2]))
    >>> scheduler.update(scheduler.schedule(), {a: Choice(7)})
    >>> b = scheduler.add(Request(tokens=[1, 2, 3, 4, 5, 6, 7, 8, 9]))
    >>> list(scheduler.schedule().values())     # a decodes one token beside the first five of b
    [1, 5]
    """

    def __init__(
        self,
        *,
        num_blocks: int,
        block_size: int,
        tokens_per_step: int,
        max_requests: int,
        context_length: int,
        num_source_blocks: int = 0,
        source_length: int = 0,
    ) -> None:
        self.block_size = block_size
        self.tokens_per_step = tokens_per_step
        self.max_requests = max_requests
        self.context_length = context_length
        self.source_length = source_length  # the longest that the encoder takes; 0: there is no encoder
        self.num_slots, self.num_source_slots = num_blocks * block_size, num_source_blocks * block_size
        self.blocks, self.source_blocks = BlockPool(num_blocks), BlockPool(num_source_blocks)
        self.state_slots = BlockPool(max_requests)
        self.running: list[Generation] = []  # the oldest first, and all older than those that wait
        self.waiting: deque[Generation] = deque()

    def check(self, request: Request) -> None:
        """Raise RequestError if `request` could never be served."""
        length = len(request.tokens)
        if length == 0:
            raise RequestError("the prompt is empty. Give at least one token.")
        for limit, what in (
            (self.context_length, "the model's context"),
            (self.num_slots, "the cache (the engine's cache_bytes)"),
        ):
            if length >= limit:
                raise RequestError(
                    f"the prompt has {length} tokens, but {what} has room for {limit}, the answer included. "
                    f"Shorten the prompt to {limit - 1} tokens or fewer."
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
            (self.num_source_slots, "the cache (the engine's cache_bytes)"),
            (self.tokens_per_step - self.max_requests, "a step (the engine's tokens_per_step)"),
        ):
            if len(source) > limit:
                raise RequestError(
                    f"the source has {len(source)} tokens, but {what} has room for {limit}. Shorten it."
                )

    def add(self, request: Request) -> Generation:
        """Queue a request that `check` has let in."""
        generation = Generation(request)
        self.waiting.append(generation)
        return generation

    def abort(self, generation: Generation) -> None:
        """End a generation now and free its blocks; one that has ended stays as it is."""
        if generation.finish_reason is None:
            if generation in self.waiting:
                self.waiting.remove(generation)
            self._finish(generation, "abort")

    def schedule(self) -> dict[Generation, int]:
        """How many pending ids of which generation the model sees now. Mutates: blocks change hands."""
        self._grow()
        self._admit()
        room = self.tokens_per_step
        plan = {}
        for generation in sorted(self.running, key=lambda g: g.num_pending + g.num_source_pending > 1):
            count = min(generation.num_pending, room - generation.num_source_pending)
            if count > 0:
                plan[generation] = count
                room -= count + generation.num_source_pending
        return plan

    def update(self, plan: Mapping[Generation, int], outcomes: Mapping[Generation, Choice | Failure]) -> None:
        """Note what a step did: ids were computed, and tokens chosen where none was left pending, or could not be."""
        for generation, count in plan.items():
            generation.num_computed += count
            outcome = outcomes.get(generation)
            if isinstance(outcome, Failure):
                generation.error = outcome.message
                self._finish(generation, "error")
            elif outcome is not None:
                generation.append(outcome)
                if reason := self._finish_reason(generation):
                    self._finish(generation, reason)

    def preempt_all(self) -> None:
        """Make every generation compute its cache again: what is in it is no longer true."""
        while self.running:
            self._preempt_newest()

    def _grow(self) -> None:
        for generation in list(self.running):
            while self._num_missing(generation) and generation in self.running:
                if self.blocks.num_free:
                    generation.blocks += self.blocks.allocate(1)
                else:
                    self._preempt_newest()

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self.max_requests:
            missing = self._num_missing(self.waiting[0])
            of_source = -(-self.waiting[0].num_source_pending // self.block_size)
            if missing > self.blocks.num_free or of_source > self.source_blocks.num_free:
                break
            generation = self.waiting.popleft()
            generation.blocks = self.blocks.allocate(missing)
            generation.source_blocks = self.source_blocks.allocate(of_source)
            [generation.state_slot] = self.state_slots.allocate(1)
            self.running.append(generation)

    def _num_missing(self, generation: Generation) -> int:
        """How many blocks it lacks for its ids."""
        return -(-len(generation.ids) // self.block_size) - len(generation.blocks)

    def _preempt_newest(self) -> None:
        generation = self.running[-1]
        self._release(generation)
        generation.num_computed = 0
        self.waiting.appendleft(generation)

    def _finish(self, generation: Generation, reason: FinishReason) -> None:
        generation.finish_reason = reason
        self._release(generation)

    def _release(self, generation: Generation) -> None:
        self.blocks.free(generation.blocks)
        self.source_blocks.free(generation.source_blocks)
        generation.blocks, generation.source_blocks = [], []
        if generation.state_slot is not None:
            self.state_slots.free([generation.state_slot])
            generation.state_slot = None
        if generation in self.running:
            self.running.remove(generation)

    def _finish_reason(self, generation: Generation) -> FinishReason | None:
        params = generation.request.params
        if generation.ids[-1] in generation.request.stop_ids and not params.ignore_eos:
            return "stop"
        is_full = len(generation.ids) >= min(self.context_length, self.num_slots)
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
