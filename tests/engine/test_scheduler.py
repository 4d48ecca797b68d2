"""The scheduler alone, with a model that is played by the test: budgets, blocks, order, and that everybody ends."""

import subprocess
import sys
from dataclasses import replace
from itertools import count
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from malmoi.core.errors import RequestError
from malmoi.engine import Choice, Generation, Request, SamplingParams
from malmoi.engine.groups import Group
from malmoi.engine.request import Failure
from malmoi.engine.scheduler import Scheduler

STOP = 0


def scheduler(**changes: int) -> Scheduler:
    limits = {
        "num_blocks": 8,
        "tokens_per_step": 6,
        "max_requests": 4,
        "context_length": 32,
    } | changes
    tokens_per_step = limits["tokens_per_step"]
    group = Group(num_blocks=limits.pop("num_blocks"), block_size=4, tokens_per_step=tokens_per_step)
    return Scheduler(groups=[group], **limits)


different = count(1)


def request(num_tokens: int, max_tokens: int | None = None) -> Request:
    """A prompt that begins as no other does."""
    return Request(
        tokens=[next(different), *[1] * (num_tokens - 1)][:num_tokens],
        params=SamplingParams(max_tokens=max_tokens),
        stop_ids=frozenset({STOP}),
    )


def step(scheduler: Scheduler, token: int = 7) -> dict[Generation, int]:
    """What engine and model do: everybody whose ids are all shown gets `token`."""
    plan = scheduler.schedule()
    done = [generation for generation, count in plan.counts.items() if count == generation.num_pending]
    chosen = {one: [Choice(token)] for generation in done for one in (generation, *generation.unborn)}
    scheduler.update(plan, chosen)
    return plan.counts


def test_it_knows_no_tensors() -> None:
    code = "import sys, malmoi.engine.scheduler; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_long_prompt_is_shown_in_chunks_and_its_first_token_follows_the_last() -> None:
    engine = scheduler()
    generation = engine.add(request(15, max_tokens=2))
    assert [list(step(engine).values()) for _ in range(4)] == [[6], [6], [3], [1]]
    assert generation.tokens == [7, 7]
    assert generation.finish_reason == "length"


def test_decoding_goes_before_prompts() -> None:
    engine = scheduler(num_blocks=16)
    long = engine.add(request(20))
    short = engine.add(request(2))
    plans = [step(engine) for _ in range(5)]
    assert plans[3] == {long: 2, short: 2}
    later = engine.add(request(11))
    assert step(engine) == {long: 1, short: 1, later: 4}


def test_a_stop_id_ends_a_generation_unless_it_ignores_them() -> None:
    engine = scheduler()
    heeding = engine.add(request(1))
    ignoring = engine.add(
        Request(tokens=[1], params=SamplingParams(ignore_eos=True), stop_ids=frozenset({STOP}))
    )
    step(engine, STOP)
    assert heeding.finish_reason == "stop"
    assert ignoring.finish_reason is None


def test_the_end_of_the_context_ends_a_generation() -> None:
    engine = scheduler(context_length=10)
    generation = engine.add(request(4))
    while generation.finish_reason is None:
        step(engine)
    assert generation.finish_reason == "length"
    assert len(generation.ids) == 10


def test_a_failure_ends_its_generation_with_an_error_and_frees_its_blocks() -> None:
    engine = scheduler()
    failing, going_on = engine.add(request(3)), engine.add(request(3))
    plan = engine.schedule()
    engine.update(plan, {failing: [Failure("no number")], going_on: [Choice(7)]})
    assert (failing.finish_reason, failing.error, failing.tokens) == ("error", "no number", [])
    assert (going_on.finish_reason, going_on.error, going_on.tokens) == (None, None, [7])
    assert engine.num_blocks_in_use == 1
    going_on.raise_if_failed()
    with pytest.raises(RequestError, match="no number"):
        failing.raise_if_failed()


def test_when_blocks_run_out_the_newest_gives_way_and_is_the_first_to_return() -> None:
    engine = scheduler(num_blocks=4, max_requests=3, tokens_per_step=16, has_prefix_cache=False)
    old, new, waiting = (engine.add(request(7, max_tokens=4)) for _ in range(3))
    step(engine)
    assert engine.running == [old, new]
    step(engine)  # both fill their second block
    step(engine)
    assert engine.running == [old]
    assert list(engine.waiting) == [new, waiting]
    assert (new.num_computed, new.tables) == (0, [])
    while old.finish_reason is None:
        step(engine)
    assert step(engine)[new] == len(new.ids) - 1  # a prompt again, of all it has
    while waiting.finish_reason is None:
        step(engine)
    assert [len(generation.tokens) for generation in (old, new, waiting)] == [4, 4, 4]


def test_an_abort_frees_blocks_whether_running_or_waiting() -> None:
    engine = scheduler(max_requests=1)
    running, waiting = engine.add(request(9)), engine.add(request(9))
    step(engine)
    for generation in (waiting, running):
        engine.abort(generation)
        engine.abort(generation)
        assert generation.finish_reason == "abort"
    assert engine.num_blocks_in_use == 0
    assert engine.schedule().counts == {}


def urgency(request: Request, priority: int) -> Request:
    return replace(request, priority=priority)


def test_a_lower_priority_goes_first_and_within_one_who_came_first() -> None:
    engine = scheduler(max_requests=1, num_blocks=16)
    usual, urgent, lazy, later = (
        engine.add(urgency(request(2, max_tokens=2), priority)) for priority in (0, -1, 2, 0)
    )
    ended: list[Generation] = []
    while len(ended) < 4:
        step(engine)
        ended += [g for g in (usual, urgent, lazy, later) if g.finish_reason and g not in ended]
    assert ended == [urgent, usual, later, lazy]


@pytest.mark.parametrize("limits", [{"max_requests": 2}, {"num_blocks": 4}], ids=["places", "blocks"])
def test_an_urgent_request_takes_the_room_of_the_last_that_runs(limits: dict[str, int]) -> None:
    engine = scheduler(tokens_per_step=16, **limits)
    first, second = (engine.add(request(6)) for _ in range(2))
    step(engine)
    urgent = engine.add(urgency(request(6), -1))
    step(engine)
    assert engine.running == [urgent, first]
    assert engine.waiting == [second]


@given(
    priority=st.integers(1, 2),
    crowd=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 4)), min_size=1, max_size=5),
)
@settings(max_examples=20)
@patch("malmoi.engine.scheduler.PATIENCE", 20)
def test_nobody_starves_however_many_urgent_requests_keep_coming(
    priority: int, crowd: list[tuple[int, int]]
) -> None:
    """Each step brings an urgent one, more than can be served."""
    engine = scheduler(max_requests=2, num_blocks=6)
    patient = engine.add(urgency(request(5, max_tokens=3), priority))
    num_steps = 0
    while patient.finish_reason is None:
        engine.add(request(*crowd[num_steps % len(crowd)]))
        step(engine)
        num_steps += 1
        num_overtaking = priority * 20  # those that come within so many steps, one a step
        assert num_steps <= num_overtaking * 9 + 100  # each of them takes less than 9 steps
    assert patient.finish_reason == "length"


@pytest.mark.slow
def test_ten_thousand_random_requests_leave_nothing_behind() -> None:
    """Of every kind at once: with common beginnings, siblings, priorities, windows, and callers who give up."""
    random = Random(0)
    tokens_per_step, num_blocks = 24, 40
    sizes: Any = {"num_blocks": num_blocks, "block_size": 4, "tokens_per_step": tokens_per_step}
    groups = [Group(**sizes), Group(**sizes, window=6)]
    engine = Scheduler(groups=groups, tokens_per_step=tokens_per_step, max_requests=6, context_length=32)
    beginnings = [[random.randrange(5) for _ in range(14)] for _ in range(8)]
    alive: list[Generation] = []
    num_added = num_cached = 0
    while num_added < 10_000 or alive:
        for _ in range(random.randrange(5) if num_added < 10_000 and len(alive) < 40 else 0):
            tokens = [*random.choice(beginnings)[: random.randrange(15)], random.randrange(5)]
            params = SamplingParams(max_tokens=random.randint(1, 12), n=random.choice((1, 1, 1, 3)))
            salt, priority = random.choice(("", "b")), random.randint(-1, 1)
            generation = engine.add(Request(tokens=tokens, params=params, salt=salt, priority=priority))
            alive += [generation, *generation.siblings]
            num_added += 1
        if alive and random.random() < 0.3:
            engine.abort(random.choice(alive))
        if random.random() < 0.01:
            random.choice([engine.preempt_all, engine.forget])()
        plan = engine.schedule()
        assert sum(plan.counts.values()) <= tokens_per_step
        assert engine.running == sorted(engine.running, key=lambda g: g.rank)
        assert not engine.waiting or not engine.running or engine.running[-1].rank < engine.waiting[0].rank
        done = [g for g, count in plan.counts.items() if count == g.num_pending]
        outcomes: dict[Generation, list[Choice | Failure]] = {
            one: [Choice(random.randrange(5))]
            for generation in done
            for one in (generation, *generation.unborn)
        }
        if done and random.random() < 0.05:
            outcomes[done[0]] = [Failure("no number")]
        engine.update(plan, outcomes)
        num_cached += sum(g.num_cached for g in alive if g.finish_reason)
        alive = [g for g in alive if g.finish_reason is None]
        for number, group in enumerate(groups):
            held = [block for g in engine.running for block in g.tables[number].blocks]
            assert group.pool.num_in_use == len(set(held))
    assert num_cached > 10_000
    assert engine.num_blocks_in_use == engine.holdings.state_slots.num_in_use == 0
    assert not engine.running
    assert not engine.waiting
    for group in groups:  # what is findable is never more than there is memory
        assert len(group.pool._blocks) == len(group.pool._keys) <= num_blocks


ARRIVALS = st.lists(
    st.tuples(st.lists(st.tuples(st.integers(1, 15), st.integers(1, 20)), max_size=2), st.integers(0, 9)),
    max_size=20,
)
"""For each step: (prompt tokens, max_tokens) of those who come, and the number of one who gives up."""


@given(arrivals=ARRIVALS, num_blocks=st.integers(4, 12), tokens_per_step=st.integers(3, 12))
@settings(max_examples=40)
def test_every_step_keeps_the_budget_and_every_request_ends(
    arrivals: list[tuple[list[tuple[int, int]], int]], num_blocks: int, tokens_per_step: int
) -> None:
    engine = scheduler(num_blocks=num_blocks, tokens_per_step=tokens_per_step, max_requests=3)
    everybody: list[Generation] = []
    while arrivals or engine.running or engine.waiting:
        sizes, gives_up = arrivals.pop() if arrivals else ([], 9)
        everybody += [engine.add(request(*size)) for size in sizes]
        if gives_up < len(everybody):
            engine.abort(everybody[gives_up])
        oldest = next((g for g in everybody if g.finish_reason is None), None)
        progress = (oldest.num_computed, len(oldest.ids)) if oldest else None

        plan = step(engine)

        assert sum(plan.values()) <= tokens_per_step
        assert all(count > 0 for count in plan.values())
        assert len(engine.running) <= 3
        if oldest:  # never preempted, always served: so everybody becomes the oldest, and ends
            assert (oldest.num_computed, len(oldest.ids)) > progress
        owned = {block for g in everybody for table in g.tables for block in table.blocks}
        assert len(owned) == engine.num_blocks_in_use
        for generation in engine.running:
            assert generation.tables[0].end * 4 >= generation.num_computed
        slots = [g.state_slot for g in everybody if g.state_slot is not None]
        assert (
            len(set(slots)) == len(slots) == len(engine.running) == 3 - engine.holdings.state_slots.num_free
        )
        assert all(g.state_slot is not None for g in engine.running)
    assert engine.num_blocks_in_use == 0
    assert engine.holdings.state_slots.num_free == 3
    for generation in everybody:
        length = generation.request.params.max_tokens
        room = min(32, num_blocks * 4) - len(generation.request.tokens)
        assert generation.finish_reason == "abort" or len(generation.tokens) == min(length, room)
