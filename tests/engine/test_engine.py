"""The whole engine on tiny models: what is computed together, cached, chunked or interrupted is what is computed
alone, in one piece and without a cache.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from malmoi.core.errors import ConfigError, RequestError
from malmoi.engine import Engine, Generation, Request, SamplingParams
from malmoi.engine.admission import Admission
from malmoi.engine.scheduler import Plan
from malmoi.nn.context import Context
from malmoi.nn.stack import Decoder
from malmoi.testing.models import tiny_gpt2, tiny_llama, tiny_lstm, tiny_t5

PROMPTS = [[5, 6, 7, 8, 9], [40], list(range(60, 83)), [3, 3, 3]]
PARAMS = [
    SamplingParams(temperature=0, max_tokens=12),
    SamplingParams(seed=1, max_tokens=20),
    SamplingParams(seed=2, top_p=0.8, repetition_penalty=1.2, max_tokens=7),
    SamplingParams(seed=3, temperature=1.5, top_k=20, frequency_penalty=0.5, max_tokens=15),
]
FAMILIES = {"llama": tiny_llama, "gpt2": tiny_gpt2, "lstm": tiny_lstm}


@pytest.fixture(params=FAMILIES.values(), ids=FAMILIES.keys(), scope="module")
def model(request: pytest.FixtureRequest) -> Decoder:
    made: Decoder = request.param()
    return made


def alone(model: Decoder, prompt: Sequence[int], params: SamplingParams) -> list[int]:
    return Engine(model).generate([prompt], params)[0].tokens


def bytes_of_blocks(model: Decoder, num_blocks: int, block_size: int) -> int:
    return num_blocks * block_size * sum(spec.bytes_per_token(4) for spec in model.cache_specs())


def greedy_without_cache(model: Decoder, prompt: Sequence[int], num_tokens: int) -> tuple[list[int], Tensor]:
    """The tokens, and the log-probabilities of the whole vocabulary before each."""
    ids, logprobs = list(prompt), []
    for _ in range(num_tokens):
        with torch.inference_mode():
            logprobs.append(model(torch.tensor([ids])).logits[0, -1].log_softmax(-1))
        ids.append(int(logprobs[-1].argmax()))
    return ids[len(prompt) :], torch.stack(logprobs)


def all_logprobs(generation: Generation) -> Tensor:
    rows = [sorted(choice.top) for choice in generation.choices]  # by token
    return torch.tensor([[candidate.logprob for candidate in row] for row in rows])


def test_cached_is_uncached_and_paged_is_dense(model: Decoder) -> None:
    params = SamplingParams(temperature=0, max_tokens=40, logprobs=259)
    [generation] = Engine(model, block_size=4).generate([PROMPTS[0]], params)
    tokens, logprobs = greedy_without_cache(model, PROMPTS[0], 40)
    assert generation.tokens == tokens
    torch.testing.assert_close(all_logprobs(generation), logprobs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tokens_per_step", [4, 7])
def test_a_prompt_in_chunks_is_the_prompt_whole(model: Decoder, tokens_per_step: int) -> None:
    params = SamplingParams(temperature=0, max_tokens=10, logprobs=259)
    [whole] = Engine(model).generate([PROMPTS[2]], params)
    [chunked] = Engine(model, tokens_per_step=tokens_per_step, max_requests=4).generate([PROMPTS[2]], params)
    assert chunked.tokens == whole.tokens
    torch.testing.assert_close(all_logprobs(chunked), all_logprobs(whole), rtol=0, atol=1e-5)


def test_each_request_gets_the_same_tokens_alone_and_among_others(model: Decoder) -> None:
    together = Engine(model, tokens_per_step=16, block_size=4).generate(PROMPTS, PARAMS)
    for prompt, params, generation in zip(PROMPTS, PARAMS, together, strict=True):
        assert generation.tokens == alone(model, prompt, params)


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_preempted_and_resumed_is_undisturbed(
    make: Callable[[], Decoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make()
    cramped = Engine(model, block_size=4, cache_bytes=bytes_of_blocks(model, 10, 4))
    preempted = []
    preempt = cramped.scheduler._preempt
    monkeypatch.setattr(cramped.scheduler, "_preempt", lambda g: preempted.append(g) or preempt(g))
    together = cramped.generate(PROMPTS, PARAMS)
    assert len(preempted) >= 2
    for prompt, params, generation in zip(PROMPTS, PARAMS, together, strict=True):
        assert generation.tokens == alone(model, prompt, params)
    assert cramped.scheduler.num_blocks_in_use == 0


@given(
    prompts=st.lists(st.lists(st.integers(0, 258), min_size=1, max_size=20), min_size=1, max_size=4),
    arrivals=st.lists(st.integers(0, 8), min_size=4, max_size=4),
    limits=st.tuples(st.integers(3, 40), st.integers(1, 3), st.integers(1, 8), st.integers(10, 30)),
)
@settings(max_examples=6)
def test_however_requests_meet_each_gets_what_it_gets_alone(
    prompts: list[list[int]], arrivals: list[int], limits: tuple[int, int, int, int]
) -> None:
    tokens_per_step, max_requests, block_size, num_blocks = limits
    model = tiny_llama()
    engine = Engine(
        model,
        tokens_per_step=tokens_per_step,
        max_requests=max_requests,
        block_size=block_size,
        cache_bytes=bytes_of_blocks(model, -(-30 // block_size) + num_blocks // 8, block_size),
    )
    waiting = sorted(zip(arrivals, range(len(prompts)), strict=False), reverse=True)
    generations: dict[int, Generation] = {}
    step = 0
    while waiting or any(g.finish_reason is None for g in generations.values()):
        while waiting and waiting[-1][0] <= step:
            index = waiting.pop()[1]
            params = SamplingParams(seed=index, max_tokens=8)
            generations[index] = engine.add(Request(tokens=prompts[index], params=params))
        engine.step()
        step += 1
    for index, generation in generations.items():
        assert generation.tokens == alone(model, prompts[index], SamplingParams(seed=index, max_tokens=8))


@pytest.mark.slow
def test_hundreds_of_requests_that_come_and_go_are_each_what_they_are_alone() -> None:
    model, random = tiny_llama(), Random(0)
    engine = Engine(
        model, block_size=4, max_requests=6, tokens_per_step=24, cache_bytes=bytes_of_blocks(model, 40, 4)
    )
    beginnings = [[random.randrange(259) for _ in range(14)] for _ in range(8)]
    everybody: list[Generation] = []
    while len(everybody) < 300 or any(g.finish_reason is None for g in everybody[-60:]):
        for _ in range(random.randrange(4) if len(everybody) < 300 else 0):
            tokens = [*random.choice(beginnings)[: random.randrange(15)], random.randrange(259)]
            params = SamplingParams(max_tokens=random.randint(1, 12), seed=len(everybody))
            everybody.append(
                engine.add(Request(tokens=tokens, params=params, priority=random.randint(-1, 1)))
            )
        if random.random() < 0.1 and everybody:
            engine.abort(random.choice(everybody[-20:]))
        if random.random() < 0.02:
            engine.refresh()
        engine.step()
    assert engine.scheduler.num_blocks_in_use == 0
    assert sum(generation.num_cached for generation in everybody) > 100
    alone = Engine(model, prefix_caching=False).generate(
        [g.request.tokens for g in everybody], [g.request.params for g in everybody]
    )
    for generation, wanted in zip(everybody, alone, strict=True):
        assert generation.tokens == wanted.tokens[: len(generation.tokens)]
        assert generation.finish_reason == "abort" or generation.tokens == wanted.tokens


def watch(model: Decoder, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Context]]:
    """Every call of the model from now on."""
    calls: list[tuple[Tensor, Context]] = []
    hidden: Callable[..., Tensor] = model.hidden

    def watched(tokens: Tensor, context: Context) -> Tensor:
        calls.append((tokens, context))
        return hidden(tokens, context)

    monkeypatch.setattr(model, "hidden", watched)
    return calls


def test_a_prefilling_and_a_decoding_request_share_one_unpadded_forward(
    model: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(model)
    first = engine.add(Request(tokens=[5, 6, 7]))
    engine.step()
    second = engine.add(Request(tokens=[10, 11, 12, 13, 14]))
    calls = watch(model, monkeypatch)

    engine.step()

    [(tokens, context)] = calls
    assert tokens.tolist() == [[first.tokens[0], 10, 11, 12, 13, 14]]
    assert context.positions.tolist() == [[3, 0, 1, 2, 3, 4]]
    assert context.sequence_lengths.tolist() == [[4, 5, 5, 5, 5, 5]]
    assert (len(first.tokens), len(second.tokens)) == (2, 1)


def test_the_head_sees_only_the_rows_that_are_sampled(
    model: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    head = model.head.forward
    monkeypatch.setattr(model.head, "forward", lambda x: rows.append(len(x)) or head(x))
    Engine(model, tokens_per_step=8, max_requests=4).generate([PROMPTS[2], [5]], SamplingParams(max_tokens=2))
    assert rows == [1, 1, 1, 1]  # two of the short prompt beside chunks of the long one, then two of that


def test_a_stop_id_ends_the_answer_and_is_its_last_token(model: Decoder) -> None:
    tokens = alone(model, PROMPTS[0], PARAMS[0])
    stop = tokens[4]
    [generation] = Engine(model).generate([PROMPTS[0]], PARAMS[0], stop_ids=[stop])
    assert generation.tokens == tokens[: tokens.index(stop) + 1]
    assert generation.finish_reason == "stop"


def test_without_a_limit_an_answer_fills_the_context(model: Decoder) -> None:
    [generation] = Engine(model).generate([[7] * 120], SamplingParams(temperature=0))
    assert (len(generation.ids), generation.finish_reason) == (128, "length")


def test_a_stream_gives_each_token_as_it_comes_and_closing_it_frees_its_blocks(model: Decoder) -> None:
    engine = Engine(model)
    stream = engine.stream(PROMPTS[0], PARAMS[1])
    first = [next(stream).token for _ in range(5)]
    assert len(engine.scheduler.running) == 1
    stream.close()
    assert engine.scheduler.num_blocks_in_use == len(engine.scheduler.running) == 0
    assert first == alone(model, PROMPTS[0], PARAMS[1])[:5]


def test_streams_that_are_read_in_turns_are_what_they_are_alone(model: Decoder) -> None:
    engine = Engine(model)
    streams = [engine.stream(prompt, p) for prompt, p in zip(PROMPTS, PARAMS, strict=True)]
    read: list[list[int]] = [[] for _ in streams]
    for which in (0, 0, 1, 2, 0, 3, 1, 3, 3, 2):
        read[which] += [choice.token for choice in islice(streams[which], 2)]
    for tokens, stream in zip(read, streams, strict=True):
        tokens += [choice.token for choice in stream]
    assert read == [alone(model, prompt, p) for prompt, p in zip(PROMPTS, PARAMS, strict=True)]


def test_the_engine_runs_on_the_live_weights() -> None:
    model = tiny_llama(seed=0)
    engine = Engine(model)
    before = engine.generate([PROMPTS[0]], PARAMS[0])[0].tokens
    with torch.no_grad():
        for parameter, new in zip(model.parameters(), tiny_llama(seed=1).parameters(), strict=True):
            parameter.copy_(new)
    after = engine.generate([PROMPTS[0]], PARAMS[0])[0].tokens
    assert after != before
    assert after == alone(tiny_llama(seed=1), PROMPTS[0], PARAMS[0])


def test_refresh_computes_again_what_old_weights_had_cached() -> None:
    model, params = tiny_llama(seed=0), SamplingParams(temperature=0, max_tokens=10)
    engine = Engine(model)
    generation = engine.add(Request(tokens=PROMPTS[0], params=params))
    for _ in range(4):
        engine.step()
    so_far = list(generation.ids)
    model.load_state_dict(tiny_llama(seed=1).state_dict())
    engine.refresh()
    while generation.finish_reason is None:
        engine.step()
    expected, _ = greedy_without_cache(tiny_llama(seed=1), so_far, 6)
    assert generation.ids == so_far + expected


@pytest.mark.parametrize(
    ("prompt", "params", "said"),
    [
        ([], {}, "the prompt is empty"),
        ([1] * 128, {}, "128 tokens, but the model's context has room for 128"),
        ([1, 259], {}, "the prompt has the id 259, outside of the model's vocabulary, 0 to 258"),
        ([1, -1], {}, "the id -1"),
        ([1], {"logit_bias": {300: 1.0}}, "logit_bias has the id 300"),
        ([1], {"logit_bias": dict.fromkeys(range(259), -100)}, "logit_bias forbids all 259 tokens"),
        ([1], {"stop": ("끝",)}, "the engine knows only ids"),
        ([1], {"regex": "a"}, "regex='a' is about text, and the engine knows only ids"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_and_the_others_go_on(
    prompt: list[int], params: dict[str, Any], said: str
) -> None:
    engine = Engine(tiny_llama())
    running = engine.add(Request(tokens=[5], params=SamplingParams(max_tokens=3)))
    for ask in (engine.generate, lambda prompts, p: engine.stream(prompts[-1], p)):
        with pytest.raises(RequestError, match=said):
            ask([[1], prompt], SamplingParams(**params))
    while running.finish_reason is None:
        engine.step()
    assert len(running.tokens) == 3
    assert engine.scheduler.num_blocks_in_use == 0


@pytest.mark.parametrize(
    "wrong", [5.0, "5", True, None, np.int64(5), torch.tensor(5)], ids=lambda x: type(x).__name__
)
@pytest.mark.parametrize("field", ["tokens", "source"])
def test_an_id_that_is_no_int_is_refused(wrong: Any, field: str) -> None:
    engine = Engine(tiny_t5())
    request = Request(tokens=[1], source=[1])
    object.__setattr__(request, field, (1, wrong))  # the test runner would refuse it in Request(...)
    with pytest.raises(RequestError, match=f"has .*, of the type {type(wrong).__name__}. Give ids as ints"):
        engine.add(request)
    assert not engine.scheduler.waiting


def test_a_request_is_checked_once_however_it_comes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tiny_llama())
    checked: list[Request] = []
    check = Admission.check
    monkeypatch.setattr(Admission, "check", lambda self, one: checked.append(one) or check(self, one))
    params = SamplingParams(max_tokens=2)
    engine.add(Request(tokens=[1], params=params))
    engine.generate([[2], [3]], params)
    list(engine.stream([4], params))
    assert [request.tokens for request in checked] == [(1,), (2,), (3,), (4,)]


NONSENSE = 200  # the first id of a prompt that makes its generation's numbers NaN


@pytest.fixture
def fragile(model: Decoder) -> Iterator[Decoder]:
    """The model, with NaN in the place of a prompt's first embedding if it is `NONSENSE`."""

    def spoil(module: nn.Module, inputs: tuple[Tensor, Context], out: Tensor) -> Tensor:
        tokens, context = inputs
        is_spoiled = (tokens == NONSENSE) & (context.positions == 0)
        return out.masked_fill(is_spoiled[..., None], float("nan"))

    with model.embedding.register_forward_hook(spoil):
        yield model


def test_a_generation_that_computes_nonsense_ends_alone(fragile: Decoder) -> None:
    """The others go on to the bit as if its caller had given it up in the step in which it fails."""

    def run(last: int) -> tuple[list[Generation], Generation]:
        engine = Engine(fragile, tokens_per_step=16, block_size=4)
        kept = [
            engine.add(Request(tokens=prompt, params=replace(params, logprobs=5)))
            for prompt, params in zip(PROMPTS, PARAMS, strict=True)
        ]
        lost = engine.add(Request(tokens=[last, 6, 7]))
        while lost.num_computed == 0:
            engine.step()
        engine.abort(lost)
        while any(generation.finish_reason is None for generation in kept):
            engine.step()
        assert engine.scheduler.num_blocks_in_use == 0
        return kept, lost

    beside_nonsense, failed = run(NONSENSE)
    undisturbed, given_up = run(NONSENSE + 1)
    assert (failed.finish_reason, failed.tokens, given_up.finish_reason) == ("error", [], "abort")
    assert "not finite" in str(failed.error)
    assert [g.choices for g in beside_nonsense] == [g.choices for g in undisturbed]
    for prompt, params, generation in zip(PROMPTS, PARAMS, beside_nonsense, strict=True):
        assert generation.tokens == alone(fragile, prompt, params)


def test_a_stream_that_fails_says_so_itself_and_in_no_other(fragile: Decoder) -> None:
    engine = Engine(fragile)
    sound, failing = engine.stream(PROMPTS[0], PARAMS[1]), engine.stream([NONSENSE], PARAMS[1])
    tokens = [next(sound).token]
    with pytest.raises(RequestError, match="not finite"):
        next(failing)
    tokens += [choice.token for choice in sound]
    assert tokens == alone(fragile, PROMPTS[0], PARAMS[1])


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_step_that_fails_or_is_interrupted_leaves_no_trace(
    model: Decoder, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(model, tokens_per_step=8, max_requests=4, block_size=4)
    run, step = engine.runner.run, count()

    def interrupted(plan: Plan) -> Any:
        outcomes = run(plan)
        if next(step) in (1, 4, 15):  # among prompts, and while all are decoding
            raise error  # all is computed, and nothing is noted
        return outcomes

    monkeypatch.setattr(engine.runner, "run", interrupted)
    generations = [engine.add(Request(tokens=p, params=q)) for p, q in zip(PROMPTS, PARAMS, strict=True)]
    num_failed = 0
    while any(generation.finish_reason is None for generation in generations):
        try:
            engine.step()
        except error:
            num_failed += 1
    assert num_failed == 3
    for prompt, params, generation in zip(PROMPTS, PARAMS, generations, strict=True):
        assert generation.tokens == alone(model, prompt, params)
    assert engine.scheduler.num_blocks_in_use == 0


def test_a_model_that_computes_nonsense_is_told_and_leaves_nothing_behind() -> None:
    model = tiny_llama()
    with torch.no_grad():
        model.norm.weight[0] = float("nan")
    engine = Engine(model)
    with pytest.raises(RequestError, match="not finite"):
        engine.generate([[5], [6]])
    assert engine.scheduler.num_blocks_in_use == 0
    assert not engine.scheduler.running


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_a_cache_of_eight_bits_is_nearly_the_whole_one_in_less_memory(make: Callable[[], Decoder]) -> None:
    model, params = make(), SamplingParams(temperature=0, max_tokens=1, logprobs=259)
    whole, small = (Engine(model, block_size=4, cache_dtype=dtype) for dtype in (None, "int8"))
    for _ in range(2):  # computed, then found in the cache
        for ours, wanted in zip(
            small.generate(PROMPTS, params), whole.generate(PROMPTS, params), strict=True
        ):
            error = (all_logprobs(ours) - all_logprobs(wanted)).abs().max()
            assert 0 < error < 0.05 * all_logprobs(wanted).abs().max()
    room = bytes_of_blocks(model, 10, 4)
    num_blocks = [
        Engine(model, block_size=4, cache_dtype=dtype, cache_bytes=room)
        .scheduler.holdings.groups[0]
        .num_blocks
        for dtype in (None, "int8")
    ]
    assert num_blocks[1] > 2.5 * num_blocks[0]


def test_a_cache_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="cache_dtype='int4' is unknown. Use 'int8'"):
        Engine(tiny_llama(), cache_dtype="int4")


@pytest.mark.parametrize(
    "limits", [{"max_requests": 8, "tokens_per_step": 4}, {"max_requests": 0}, {"cache_bytes": 100}]
)
def test_limits_that_do_not_fit_each_other_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        Engine(tiny_llama(), **limits)


def test_as_many_params_as_prompts() -> None:
    with pytest.raises(RequestError, match="2 prompts, but 1 params"):
        Engine(tiny_llama()).generate([[1], [2]], [SamplingParams()])
