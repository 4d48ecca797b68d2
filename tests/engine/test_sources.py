"""Encoder-decoders in the engine: a source is read once, whole, and answered as if its request were alone."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from malmoi.core.errors import ConfigError, RequestError
from malmoi.engine import Choice, Engine, Generation, Request, SamplingParams
from malmoi.engine.groups import Group
from malmoi.engine.scheduler import Scheduler
from malmoi.models import build_model, initialise, whisper
from malmoi.models.bart import BartConfig
from malmoi.nn.stack import EncoderDecoder
from malmoi.testing.models import VOCAB_SIZE, tiny_llama, tiny_t5


def tiny_bart() -> EncoderDecoder:
    config = BartConfig(
        vocab_size=VOCAB_SIZE, hidden_size=32, num_layers=1, num_heads=4, intermediate_size=64,
        num_decoder_layers=2, num_decoder_heads=2, decoder_intermediate_size=64, max_positions=128,
    )  # fmt: skip
    model: Any = build_model(config)
    return initialise(model, seed=0, std=0.5).eval()  # type: ignore[no-any-return]


SOURCES = [[5, 6, 7, 8, 9], [40], list(range(60, 83)), [3, 3, 3]]
PROMPTS = [[0], [0, 7], [0], [0, 9, 9, 9, 9, 9, 9]]
PARAMS = [
    SamplingParams(temperature=0, max_tokens=12),
    SamplingParams(seed=1, max_tokens=20),
    SamplingParams(seed=2, top_p=0.8, repetition_penalty=1.2, max_tokens=7),
    SamplingParams(seed=3, temperature=1.5, top_k=20, frequency_penalty=0.5, max_tokens=15),
]


@pytest.fixture(params=[tiny_t5, tiny_bart], ids=["t5", "bart"], scope="module")
def model(request: pytest.FixtureRequest) -> EncoderDecoder:
    made: EncoderDecoder = request.param()
    return made


def alone(model: EncoderDecoder, index: int) -> list[int]:
    engine = Engine(model)
    return engine.generate([PROMPTS[index]], PARAMS[index], sources=[SOURCES[index]])[0].tokens


def without_cache(model: EncoderDecoder, source: Sequence[int], prompt: Sequence[int], num: int) -> list[int]:
    ids = list(prompt)
    for _ in range(num):
        with torch.inference_mode():
            logits = model(torch.tensor([list(source)]), decoder_tokens=torch.tensor([ids])).logits
        ids.append(int(logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("tokens_per_step", [None, 27])
def test_cached_is_uncached_and_paged_is_dense(model: EncoderDecoder, tokens_per_step: int | None) -> None:
    """27 tokens a step hold the longest source beside three others, and cut the longest prompt."""
    engine = Engine(model, block_size=4, max_requests=4, tokens_per_step=tokens_per_step)
    params = SamplingParams(temperature=0, max_tokens=12)
    for index, generation in enumerate(engine.generate(PROMPTS, params, sources=SOURCES)):
        assert generation.tokens == without_cache(model, SOURCES[index], PROMPTS[index], 12)


def test_an_answer_depends_on_the_source(model: EncoderDecoder) -> None:
    params = SamplingParams(seed=1, temperature=2, max_tokens=12)
    answers = Engine(model).generate([[0]] * 4, params, sources=SOURCES)
    assert len({tuple(answer.tokens) for answer in answers}) == 4


def test_each_request_gets_the_same_tokens_alone_and_among_others(model: EncoderDecoder) -> None:
    engine = Engine(model, tokens_per_step=30, max_requests=3, block_size=4)
    together = engine.generate(PROMPTS, PARAMS, sources=SOURCES)
    assert [generation.tokens for generation in together] == [alone(model, index) for index in range(4)]
    assert engine.scheduler.num_blocks_in_use == 0


def test_preempted_it_reads_its_source_again_and_is_undisturbed(
    model: EncoderDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer_bytes = sum(spec.bytes_per_token(4) for spec in model.cache_specs()) // 2
    cramped = Engine(
        model, block_size=4, cache_bytes=4 * layer_bytes * 18
    )  # blocks for tokens and for sources
    preempted = []
    preempt = cramped.scheduler._preempt
    monkeypatch.setattr(cramped.scheduler, "_preempt", lambda g: preempted.append(g) or preempt(g))
    together = cramped.generate(PROMPTS, PARAMS, sources=SOURCES)
    assert preempted
    assert [generation.tokens for generation in together] == [alone(model, index) for index in range(4)]


def test_the_encoder_reads_each_source_once(model: EncoderDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[int]] = []
    encode: Callable[..., Tensor] = model.encode
    monkeypatch.setattr(
        model, "encode", lambda ids, context: read.append(ids[0].tolist()) or encode(ids, context)
    )
    engine = Engine(model)
    first = engine.add(Request(tokens=[0], source=SOURCES[0], params=PARAMS[0]))
    engine.step()
    second, third = (engine.add(Request(tokens=[0], source=SOURCES[i], params=PARAMS[0])) for i in (1, 3))
    while any(generation.finish_reason is None for generation in (first, second, third)):
        engine.step()
    assert read == [SOURCES[0], SOURCES[1] + SOURCES[3]]


def test_a_stream_gives_each_token_as_it_comes_and_closing_it_frees_both_kinds_of_blocks(
    model: EncoderDecoder,
) -> None:
    engine = Engine(model)
    pools = [group.pool for group in engine.scheduler.holdings.groups]
    assert len(pools) == 2
    stream = engine.stream(PROMPTS[1], PARAMS[1], source=SOURCES[1])
    first = [next(stream).token for _ in range(5)]
    assert all(pool.num_free < pool.num_blocks for pool in pools)
    stream.close()
    assert all(pool.num_free == pool.num_blocks for pool in pools)
    assert first == alone(model, 1)[:5]


def test_refresh_reads_the_source_again_with_the_new_weights() -> None:
    model = tiny_t5(seed=0)
    engine = Engine(model)
    generation = engine.add(
        Request(tokens=[0], source=SOURCES[0], params=SamplingParams(temperature=0, max_tokens=10))
    )
    for _ in range(4):
        engine.step()
    so_far = list(generation.ids)
    model.load_state_dict(tiny_t5(seed=1).state_dict())
    engine.refresh()
    while generation.finish_reason is None:
        engine.step()
    assert generation.ids == so_far + without_cache(tiny_t5(seed=1), SOURCES[0], so_far, 6)


@pytest.mark.parametrize(
    ("source", "limits", "said"),
    [
        (None, {}, "encoder has nothing to read"),
        ([], {}, "encoder has nothing to read"),
        ([1] * 129, {}, "the source has 129 tokens, but the model's encoder has room for 128"),
        (
            [1] * 29,
            {"tokens_per_step": 32, "max_requests": 4},
            "but a step .*tokens_per_step.* has room for 28",
        ),
        ([1] * 60, {"cache_bytes": 60_000}, "but the cache .*cache_bytes.* has room for"),
        ([1, 259], {}, "the source has the id 259, outside of the model's vocabulary"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused_with_the_sizes(
    source: list[int] | None, limits: dict[str, int], said: str
) -> None:
    engine = Engine(tiny_t5(), **limits)
    with pytest.raises(RequestError, match=said):
        engine.add(Request(tokens=[0], source=source))
    assert not engine.scheduler.waiting


def test_a_source_for_a_model_without_an_encoder_is_refused() -> None:
    with pytest.raises(RequestError, match="has no encoder to read a source. Put it into the prompt"):
        Engine(tiny_llama()).generate([[1]], sources=[[2]])


def test_an_encoder_that_reads_no_tokens_is_refused_before_anything_runs() -> None:
    model: Any = build_model(whisper.sized(1, num_heads=1, vocab_size=VOCAB_SIZE))
    with pytest.raises(ConfigError, match=r"AudioToText reads no tokens.*malmoi transcribe"):
        Engine(model)


def test_a_source_that_is_computed_to_nonsense_ends_its_own_answer_alone(
    model: EncoderDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(model, block_size=4)
    generations = [
        engine.add(Request(tokens=p, source=s, params=q))
        for p, s, q in zip(PROMPTS, SOURCES, PARAMS, strict=True)
    ]
    encode: Callable[..., Tensor] = model.encode
    with monkeypatch.context() as patch:
        patch.setattr(
            model,
            "encode",
            lambda ids, context: encode(ids, context).masked_fill(
                (ids == SOURCES[1][0])[..., None], torch.nan
            ),
        )
        while any(generation.finish_reason is None for generation in generations):
            engine.step()
    assert generations[1].finish_reason == "error"
    for index in (0, 2, 3):
        assert generations[index].tokens == alone(model, index)


def test_as_many_sources_as_prompts() -> None:
    with pytest.raises(RequestError, match="2 prompts, but 1 sources"):
        Engine(tiny_t5()).generate([[0], [0]], sources=[[1]])


@pytest.mark.parametrize("cache_bytes", [20_000, 100_000, 1_000_000])
def test_the_cache_takes_no_more_than_it_may(cache_bytes: int) -> None:
    engine = Engine(tiny_t5(), cache_bytes=cache_bytes)
    pools = engine.runner.pools
    assert sum(4 * (pool.k.numel() + pool.v.numel()) for pool in pools) <= cache_bytes  # type: ignore[union-attr]
    assert all(group.num_blocks > 0 for group in engine.scheduler.holdings.groups)


def test_a_cache_without_room_for_a_block_of_each_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="a block of 16 tokens in each group of layers"):
        Engine(tiny_t5(), cache_bytes=10_000)


ARRIVALS = st.lists(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 12)), max_size=2), max_size=14
)
"""For each step, those who come: (tokens of the source, of the prompt, max_tokens)."""


@given(arrivals=ARRIVALS, num_blocks=st.integers(6, 12), num_source_blocks=st.integers(3, 6))
@settings(max_examples=40)
def test_every_step_keeps_the_budget_and_nobody_waits_for_ever(
    arrivals: list[list[tuple[int, int, int]]], num_blocks: int, num_source_blocks: int
) -> None:
    sizes: Any = {"block_size": 4, "tokens_per_step": 12}
    of_tokens = Group(num_blocks=num_blocks, **sizes)
    of_sources = Group(num_blocks=num_source_blocks, is_of_source=True, **sizes)
    scheduler = Scheduler(
        groups=[of_tokens, of_sources], tokens_per_step=12, max_requests=3, context_length=32, source_length=9,
        has_prefix_cache=False,
    )  # fmt: skip
    everybody: list[Generation] = []
    while arrivals or scheduler.running or scheduler.waiting:
        for of_source, of_prompt, max_tokens in arrivals.pop() if arrivals else []:
            request = Request(
                tokens=[1] * of_prompt, source=[1] * of_source, params=SamplingParams(max_tokens=max_tokens)
            )
            everybody.append(scheduler.add(request))
        oldest = next((g for g in everybody if g.finish_reason is None), None)
        progress = (oldest.num_computed, len(oldest.ids)) if oldest else None

        plan = scheduler.schedule()
        assert sum(count + g.num_source_pending for g, count in plan.counts.items()) <= 12
        done = {g for g, count in plan.counts.items() if count == g.num_pending}
        scheduler.update(plan, {g: [Choice(7)] for g in done})

        if oldest:
            assert (oldest.num_computed, len(oldest.ids)) > progress
        owned = [block for g in scheduler.running for block in g.tables[1].blocks]
        assert len(set(owned)) == len(owned) == of_sources.pool.num_in_use
        assert all(4 * len(g.tables[1].blocks) >= len(g.request.source or ()) for g in scheduler.running)
    assert scheduler.num_blocks_in_use == 0
    for generation in everybody:
        request = generation.request
        room = min(32, num_blocks * 4) - len(request.tokens)
        assert len(generation.tokens) == min(request.params.max_tokens or 0, room)
