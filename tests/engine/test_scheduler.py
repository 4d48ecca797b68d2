"""The scheduler alone, with a model that is played by the test: budgets, blocks, order, and that everybody ends."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from malmoi.core.errors import RequestError
from malmoi.engine import Choice, Generation, Request, SamplingParams
from malmoi.engine.request import Failure
from malmoi.engine.scheduler import Scheduler

STOP = 0


def scheduler(**changes: int) -> Scheduler:
    limits = {
        "num_blocks": 8,
        "block_size": 4,
        "tokens_per_step": 6,
        "max_requests": 4,
        "context_length": 32,
    }
    return Scheduler(**(limits | changes))


def request(num_tokens: int, max_tokens: int | None = None) -> Request:
    return Request(
        tokens=[1] * num_tokens, params=SamplingParams(max_tokens=max_tokens), stop_ids=frozenset({STOP})
    )


def step(scheduler: Scheduler, token: int = 7) -> dict[Generation, int]:
    """What engine and model do: everybody whose ids are all shown gets `token`."""
    plan = scheduler.schedule()
    done = {generation for generation, count in plan.items() if count == generation.num_pending}
    scheduler.update(plan, {generation: Choice(token) for generation in done})
    return plan


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
    engine.update(plan, {failing: Failure("no number"), going_on: Choice(7)})
    assert (failing.finish_reason, failing.error, failing.tokens) == ("error", "no number", [])
    assert (going_on.finish_reason, going_on.error, going_on.tokens) == (None, None, [7])
    assert engine.blocks.num_free == 7
    going_on.raise_if_failed()
    with pytest.raises(RequestError, match="no number"):
        failing.raise_if_failed()


def test_when_blocks_run_out_the_newest_gives_way_and_is_the_first_to_return() -> None:
    engine = scheduler(num_blocks=4, max_requests=3, tokens_per_step=16)
    old, new, waiting = (engine.add(request(7, max_tokens=4)) for _ in range(3))
    step(engine)
    assert engine.running == [old, new]
    step(engine)  # both fill their second block
    step(engine)
    assert engine.running == [old]
    assert list(engine.waiting) == [new, waiting]
    assert (new.num_computed, new.blocks) == (0, [])
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
    assert engine.blocks.num_free == 8
    assert engine.schedule() == {}


@pytest.mark.parametrize(
    ("num_tokens", "limits", "said"),
    [
        (0, {}, "the prompt is empty"),
        (32, {}, r"32 tokens, but the model's context has room for 32.*Shorten the prompt to 31"),
        (17, {"num_blocks": 4}, r"17 tokens, but the cache .*cache_bytes.* has room for 16"),
    ],
)
def test_a_request_that_can_never_be_served_is_refused_with_the_sizes(
    num_tokens: int, limits: dict[str, int], said: str
) -> None:
    with pytest.raises(RequestError, match=said):
        scheduler(**limits).check(request(num_tokens))


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
        owned = [block for g in everybody for block in g.blocks]
        assert len(set(owned)) == len(owned) == num_blocks - engine.blocks.num_free
        for generation in engine.running:
            assert len(generation.blocks) * 4 >= generation.num_computed
        slots = [g.state_slot for g in everybody if g.state_slot is not None]
        assert len(set(slots)) == len(slots) == len(engine.running) == 3 - engine.state_slots.num_free
        assert all(g.state_slot is not None for g in engine.running)
    assert engine.blocks.num_free == num_blocks
    assert engine.state_slots.num_free == 3
    for generation in everybody:
        length = generation.request.params.max_tokens
        room = min(32, num_blocks * 4) - len(generation.request.tokens)
        assert generation.finish_reason == "abort" or len(generation.tokens) == min(length, room)
