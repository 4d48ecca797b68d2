"""Several answers to one request: one prompt computed, blocks shared until somebody writes, and each answer its own."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from malmoi.core.errors import RequestError
from malmoi.engine import Engine, Generation, Request, SamplingParams
from malmoi.testing.models import tiny_gpt2, tiny_llama, tiny_lstm, tiny_t5

PROMPT = list(range(60, 82))
PARAMS = SamplingParams(n=4, seed=5, temperature=1.3, max_tokens=12)
FAMILIES = [tiny_llama, tiny_gpt2, tiny_lstm, tiny_t5]


def family(generation: Generation) -> list[Generation]:
    return [generation, *generation.siblings]


def alone(model: Any, seed: int, source: list[int] | None = None) -> list[int]:
    params = replace(PARAMS, n=1, seed=seed)
    sources = None if source is None else [source]
    return Engine(model).generate([PROMPT], params, sources=sources)[0].tokens


@pytest.mark.parametrize("make", FAMILIES)
@pytest.mark.parametrize("max_requests", [2, 16])
def test_n_answers_are_those_of_n_requests_whose_seeds_follow_each_other(
    make: Callable[[], Any], max_requests: int
) -> None:
    """Of more than may run at a time, the others come later."""
    model = make()
    sources = [[7, 8, 9]] if make is tiny_t5 else None
    engine = Engine(model, block_size=4, max_requests=max_requests)
    [first] = engine.generate([PROMPT], PARAMS, sources=sources)
    tokens = [one.tokens for one in family(first)]
    assert tokens == [alone(model, 5 + index, sources and sources[0]) for index in range(4)]
    assert len(set(map(tuple, tokens))) == 4
    assert engine.scheduler.num_blocks_in_use == 0


def test_the_prompt_is_computed_once_and_its_full_blocks_have_one_copy() -> None:
    engine = Engine(tiny_llama(), block_size=4, prefix_caching=False)
    first = engine.add(Request(tokens=PROMPT, params=PARAMS))
    engine.step()
    plan = engine.scheduler.schedule()
    assert plan.counts == dict.fromkeys(family(first), 1)
    assert [len(copies) for copies in plan.copies] == [3]  # of the last block, with 2 of its 4 tokens
    tables = [one.tables[0].blocks for one in family(first)]
    assert all(table[:5] == tables[0][:5] for table in tables)
    assert len({table[5] for table in tables}) == 4
    assert engine.scheduler.num_blocks_in_use == 5 + 4


def test_a_prompt_that_ends_with_its_block_needs_no_copy() -> None:
    engine = Engine(tiny_llama(), block_size=11, prefix_caching=False)
    engine.add(Request(tokens=PROMPT, params=PARAMS))
    engine.step()
    assert engine.scheduler.schedule().copies == [{}]


def test_giving_up_before_the_prompt_is_computed_ends_all_and_later_one() -> None:
    engine = Engine(tiny_llama(), tokens_per_step=16)
    early, late = (engine.add(Request(tokens=PROMPT, params=PARAMS)) for _ in range(2))
    engine.step()
    engine.abort(early)
    assert {one.finish_reason for one in family(early)} == {"abort"}
    while not late.tokens:
        engine.step()
    engine.abort(late)
    engine.abort(late.siblings[1])
    while any(one.finish_reason is None for one in family(late)):
        engine.step()
    assert [one.finish_reason for one in family(late)] == ["abort", "length", "abort", "length"]
    assert engine.scheduler.num_blocks_in_use == 0


def test_a_stream_of_several_answers_is_refused() -> None:
    with pytest.raises(RequestError, match="n=4, and a stream gives one answer"):
        Engine(tiny_llama()).stream([1], PARAMS)


@given(
    numbers=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    num_blocks=st.integers(9, 24),
    preempted_at=st.sets(st.integers(0, 12), max_size=3),
    gives_up=st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
@settings(max_examples=10)
def test_whatever_happens_to_siblings_each_answer_is_its_own(
    numbers: list[int], num_blocks: int, preempted_at: set[int], gives_up: tuple[int, int]
) -> None:
    model = tiny_llama()
    bytes_per_block = 4 * sum(spec.bytes_per_token(4) for spec in model.cache_specs())
    engine = Engine(
        model, block_size=4, cache_bytes=num_blocks * bytes_per_block, tokens_per_step=20, max_requests=3
    )
    firsts = [engine.add(Request(tokens=PROMPT, params=replace(PARAMS, n=n, max_tokens=8))) for n in numbers]
    everybody = [one for first in firsts for one in family(first)]
    step = 0
    while any(one.finish_reason is None for one in everybody):
        if step in preempted_at:
            engine.scheduler.preempt_all()
        if step == gives_up[0] and gives_up[1] < len(everybody):
            engine.abort(everybody[gives_up[1]])
        engine.step()
        step += 1
    wanted = [alone(model, 5 + index)[:8] for index in range(4)]
    for first in firsts:
        for index, one in enumerate(family(first)):
            assert one.tokens == wanted[index][: len(one.tokens)]
            assert one.finish_reason == "abort" or len(one.tokens) == 8
    assert engine.scheduler.num_blocks_in_use == 0
