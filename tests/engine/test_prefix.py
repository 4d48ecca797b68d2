"""Common beginnings: found in the cache they are what they are computed, and only by those who may find them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from malmoi.engine import Attachment, Engine, Generation, Request, SamplingParams
from malmoi.nn.stack import Decoder
from malmoi.testing.models import IMAGE_TOKEN, tiny_gpt2, tiny_llama, tiny_llava, tiny_lstm, tiny_t5

PREFIX = list(range(100, 121))  # five blocks of 4, and a token
PARAMS = SamplingParams(temperature=0, max_tokens=10, logprobs=259)


def run(engine: Engine, *requests: Request) -> list[Generation]:
    generations = [engine.add(request) for request in requests]
    while any(generation.finish_reason is None for generation in generations):
        engine.step()
    return generations


def ask(tokens: Sequence[int], **others: Any) -> Request:
    return Request(tokens=tokens, params=others.pop("params", PARAMS), **others)


def logprobs(generation: Generation) -> Tensor:
    return torch.tensor([[c.logprob for c in sorted(choice.top)] for choice in generation.choices])


def assert_same(ours: Generation, wanted: Generation) -> None:
    assert ours.tokens == wanted.tokens
    tolerance = 1e-5 * logprobs(wanted).abs().max().item()
    torch.testing.assert_close(logprobs(ours), logprobs(wanted), rtol=0, atol=tolerance)


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_a_prefix_that_is_found_is_one_that_is_computed(make: Callable[[], Decoder]) -> None:
    model = make()
    engine, cold = Engine(model, block_size=4), Engine(model, block_size=4, prefix_caching=False)
    for end, num_cached in [([7, 8], 0), ([7, 8], 20), ([9], 20), ([], 20)]:
        [warm], [wanted] = run(engine, ask(PREFIX + end)), run(cold, ask(PREFIX + end))
        assert (warm.num_cached, wanted.num_cached) == (num_cached, 0)
        assert_same(warm, wanted)


def test_the_last_token_is_computed_even_if_all_is_there() -> None:
    engine = Engine(tiny_llama(), block_size=4)
    run(engine, ask(PREFIX))
    [again] = run(engine, ask(PREFIX[:20]))
    assert again.num_cached == 16


def test_what_was_generated_is_found_too() -> None:
    engine = Engine(tiny_llama(), block_size=4)
    [first] = run(engine, ask(PREFIX))
    [turn] = run(engine, ask([*first.ids, 5, 6]))
    assert turn.num_cached == 28  # 21 of the prompt, and 10 of which the last was never shown to the model
    assert_same(turn, run(Engine(tiny_llama()), ask(turn.request.tokens))[0])


def test_requests_that_come_together_are_each_right() -> None:
    engine = Engine(tiny_llama(), block_size=4, tokens_per_step=16)
    for generation in run(engine, *[ask([*PREFIX, last]) for last in (1, 1, 2)]):
        assert_same(generation, run(Engine(tiny_llama()), generation.request)[0])


def test_a_salt_keeps_tenants_apart() -> None:
    engine = Engine(tiny_llama(), block_size=4)
    [first, *others] = (run(engine, ask(PREFIX, salt=salt))[0] for salt in ("a", "b", "", "a"))
    assert [one.num_cached for one in (first, *others)] == [0, 0, 0, 20]


def test_refresh_forgets() -> None:
    model = tiny_llama(seed=0)
    engine = Engine(model, block_size=4)
    run(engine, ask(PREFIX))
    model.load_state_dict(tiny_llama(seed=1).state_dict())
    engine.refresh()
    [after] = run(engine, ask(PREFIX))
    assert after.num_cached == 0
    assert_same(after, run(Engine(tiny_llama(seed=1)), ask(PREFIX))[0])


def test_whoever_gave_way_finds_its_own_blocks_again() -> None:
    engine = Engine(tiny_llama(), block_size=4)
    generation = engine.add(ask(PREFIX))
    for _ in range(5):
        engine.step()
    engine.scheduler.preempt_all()
    assert engine.scheduler.schedule().counts == {generation: 2}  # of 26 ids, 24 of which fill their blocks
    engine.scheduler.preempt_all()
    while generation.finish_reason is None:
        engine.step()
    assert_same(generation, run(Engine(tiny_llama()), ask(PREFIX))[0])


def test_an_image_is_part_of_what_is_found() -> None:
    model = tiny_llava()
    tokens = [5, 6, *[IMAGE_TOKEN] * 4, 7, 8, 9]
    image, other = torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(0))
    params = replace(PARAMS, logit_bias={IMAGE_TOKEN: -100})

    def about(features: Tensor, start: int = 2, digest: bytes | None = None) -> Request:
        attachment = Attachment(start=start, features=features, digest=digest)
        return ask(tokens, attachments=[attachment], params=params)

    engine = Engine(model, block_size=4)
    asked = [about(image), about(image.clone()), about(other), ask(tokens, params=params), about(other, 3)]
    found = [run(engine, request)[0] for request in asked]
    assert [generation.num_cached for generation in found] == [0, 8, 0, 0, 0]
    for generation in found:
        assert_same(generation, run(Engine(model), generation.request)[0])
    named = [run(engine, about(image, digest=digest))[0].num_cached for digest in (b"a", b"b", b"a")]
    assert named == [0, 0, 8]


@pytest.mark.parametrize("model", [tiny_lstm(), tiny_t5()], ids=["a state", "a source"])
def test_what_is_no_beginning_of_anything_is_not_kept(model: Any) -> None:
    engine = Engine(model, block_size=4)
    for _ in range(2):
        [generation] = run(engine, ask(PREFIX, source=[1, 2] if hasattr(model, "encoder") else None))
        assert generation.num_cached == 0


@given(
    prompts=st.lists(
        st.tuples(st.sampled_from([PREFIX, PREFIX[:9], [1, 2]]), st.lists(st.integers(0, 258), max_size=9)),
        min_size=1,
        max_size=6,
    ),
    num_blocks=st.integers(10, 30),
    is_together=st.booleans(),
)
@settings(max_examples=10)
def test_however_beginnings_meet_each_gets_what_it_gets_alone(
    prompts: list[tuple[list[int], list[int]]], num_blocks: int, is_together: bool
) -> None:
    """In a cache so small that beginnings are forgotten and generations give way."""
    model = tiny_llama()
    bytes_per_block = 4 * sum(spec.bytes_per_token(4) for spec in model.cache_specs())
    engine = Engine(model, block_size=4, cache_bytes=num_blocks * bytes_per_block, tokens_per_step=20)
    requests = [ask(prefix + rest, params=SamplingParams(seed=1, max_tokens=6)) for prefix, rest in prompts]
    groups = [requests] if is_together else [[request] for request in requests]
    for generation in [generation for group in groups for generation in run(engine, *group)]:
        alone = Engine(model, prefix_caching=False).generate(
            [generation.request.tokens], generation.request.params
        )
        assert generation.tokens == alone[0].tokens
    assert engine.scheduler.num_blocks_in_use == 0
