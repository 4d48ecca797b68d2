"""Beam search: what `transformers` finds, alone and in any company, and nothing of it stays behind."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from malmoi.core.errors import RequestError
from malmoi.engine import (
    AsyncEngine,
    Choice,
    Engine,
    Generation,
    LogitsRule,
    PromptLookup,
    Request,
    SamplingParams,
)
from malmoi.engine.groups import Group
from malmoi.engine.request import Continuations, Failure
from malmoi.engine.scheduler import Scheduler
from malmoi.models import save_model
from malmoi.nn.stack import Decoder, EncoderDecoder
from malmoi.testing.models import VOCAB_SIZE, tiny_gpt2, tiny_llama, tiny_lstm, tiny_t5

PROMPTS = [[5, 6, 7, 8, 9], [40], list(range(60, 83))]
MANY_STOPS = tuple(range(0, VOCAB_SIZE, 9))
START = [0, 3]  # what the answer of an encoder-decoder begins with
PAD = 1  # no stop id, and chosen by none of these models


def search(beam_width: int = 4, **changes: Any) -> SamplingParams:
    return SamplingParams(**({"beam_width": beam_width, "n": beam_width, "max_tokens": 12} | changes))


def family(generation: Generation) -> list[Generation]:
    return [generation, *generation.siblings]


def results(generation: Generation) -> list[tuple[list[int], str | None]]:
    return [(one.tokens, one.finish_reason) for one in family(generation)]


def alone(
    model: Any, prompt: Sequence[int], params: SamplingParams, stops: Sequence[int] = MANY_STOPS
) -> list[tuple[list[int], str | None]]:
    sources = [[7, 8, 9]] if isinstance(model, EncoderDecoder) else None
    [generation] = Engine(model, block_size=4).generate([prompt], params, stop_ids=stops, sources=sources)
    return results(generation)


# --- what transformers finds -------------------------------------------------------------------------------


class Reference:
    """`generate` of transformers for one of our models."""

    def __init__(self, make: Callable[[], Decoder | EncoderDecoder], directory: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

        self.ours = make()
        save_model(self.ours, directory)
        is_decoder = isinstance(self.ours, Decoder)
        kind: Any = AutoModelForCausalLM if is_decoder else AutoModelForSeq2SeqLM
        self.theirs: Any = kind.from_pretrained(directory)

    def search(
        self, prompt: list[int], params: SamplingParams, stops: Sequence[int], rule: Any = None
    ) -> Generation:
        where = {"tokens": prompt} if isinstance(self.ours, Decoder) else {"tokens": START, "source": prompt}
        engine = Engine(self.ours, block_size=4)
        generation = engine.add(Request(**where, params=params, stop_ids=frozenset(stops), rule=rule))
        while generation.finish_reason is None:
            engine.step()
        assert engine.scheduler.num_blocks_in_use == 0
        return generation

    def stops(self, prompt: list[int]) -> list[int]:
        """Ids that a search comes across early."""
        best, *_, last = family(self.search(prompt, search(5), ()))
        return sorted({best.tokens[2], best.tokens[6], last.tokens[4]})

    def agrees(
        self,
        prompt: list[int],
        params: SamplingParams,
        *,
        stops: Sequence[int],
        rule: LogitsRule | None = None,
        **said_otherwise: Any,
    ) -> bool:
        """Assert the same answers with the same scores; return whether one has ended before `max_tokens`."""
        generation = self.search(prompt, params, stops, rule)
        is_decoder = isinstance(self.ours, Decoder)
        opening = {"decoder_input_ids": torch.tensor([START]), "decoder_start_token_id": START[0]}
        found = self.theirs.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            **({} if is_decoder else opening),
            do_sample=False,
            num_beams=params.beam_width,
            num_return_sequences=params.n,
            length_penalty=params.length_penalty,
            early_stopping=params.early_stopping,
            max_new_tokens=params.max_tokens,
            eos_token_id=list(stops),
            pad_token_id=PAD,
            return_dict_in_generate=True,
            output_scores=True,
            **said_otherwise,
        )
        rows = found.sequences[:, len(prompt if is_decoder else START) :].tolist()
        assert len(rows) == params.n
        for one, row, score in zip(family(generation), rows, found.sequences_scores.tolist(), strict=True):
            assert one.tokens == row[: len(one.tokens)]
            assert set(row[len(one.tokens) :]) <= {PAD}
            assert one.score == pytest.approx(score, rel=1e-5)
            assert one.finish_reason == ("stop" if one.tokens[-1] in stops else "length")
        return any(len(one.tokens) < params.max_tokens for one in family(generation))


def tiny_bart() -> EncoderDecoder:
    from malmoi.models import build_model, initialise
    from malmoi.models.bart import BartConfig

    config = BartConfig(
        vocab_size=VOCAB_SIZE, hidden_size=32, num_layers=1, num_heads=4, intermediate_size=64,
        num_decoder_layers=2, num_decoder_heads=2, decoder_intermediate_size=64, max_positions=128,
    )  # fmt: skip
    model: Any = build_model(config)
    return initialise(model, seed=0, std=0.5).eval()  # type: ignore[no-any-return]


@pytest.fixture(scope="module", params=[tiny_llama, tiny_t5, tiny_bart], ids=["llama", "t5", "bart"])
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return Reference(request.param, tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize(
    ("length_penalty", "early_stopping"),
    [(1.0, False), (1.0, True), (1.0, "never"), (0.0, "never"), (-1.0, False), (2.0, False)],
)
def test_a_search_finds_what_transformers_finds(
    reference: Reference, length_penalty: float, early_stopping: Any
) -> None:
    changes: Any = {"length_penalty": length_penalty, "early_stopping": early_stopping}
    ended = []
    for prompt in PROMPTS:
        reference.agrees(prompt, search(2, n=1, **changes), stops=(2,))
        ended.append(reference.agrees(prompt, search(5, **changes), stops=reference.stops(prompt)))
    assert any(ended) or length_penalty > 1  # then the longest win


class Even(LogitsRule):
    """Even ids behind odd ones, and odd behind even ones, of the first 40."""

    def __init__(self, last: int = 0) -> None:
        self.last = last

    @staticmethod
    def after(last: int) -> list[int]:
        return [token for token in range(40) if token % 2 != last % 2]

    def allowed(self) -> Tensor:
        mask = torch.zeros(VOCAB_SIZE, dtype=torch.bool)
        mask[self.after(self.last)] = True
        return mask

    def advance(self, token: int) -> None:
        self.last = token

    def copy(self) -> "Even":
        return Even(self.last)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"repetition_penalty": 1.3}, {"repetition_penalty": 1.3}),
        ({"min_tokens": 5}, {"min_new_tokens": 5}),
        ({"logit_bias": {80: -100, 9: -100}}, {"suppress_tokens": [9, 80]}),
        ({"logit_bias": {80: 3, 9: -2}}, {"sequence_bias": [[[80], 3.0], [[9], -2.0]]}),
    ],
    ids=["repetition_penalty", "min_tokens", "forbidden", "bias"],
)
def test_what_speaks_against_tokens_counts_in_a_search_as_in_transformers(
    reference: Reference, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    for prompt in PROMPTS:
        reference.agrees(prompt, search(3, **ours), stops=reference.stops(prompt), **theirs)


def test_each_beam_has_a_rule_of_its_own_as_in_transformers(reference: Reference) -> None:
    stops = (36, 39)
    for prompt in PROMPTS:
        reference.agrees(
            prompt,
            search(4),
            stops=stops,
            rule=Even((prompt if isinstance(reference.ours, Decoder) else START)[-1]),
            prefix_allowed_tokens_fn=lambda _, ids: Even.after(int(ids[-1])),
        )


# --- what it is without a search ---------------------------------------------------------------------------


def test_a_search_of_one_beam_is_greedy() -> None:
    params = SamplingParams(temperature=0, beam_width=1, max_tokens=12)
    assert params == SamplingParams(temperature=0, max_tokens=12)
    wide = search(4, n=1, max_tokens=1)  # of one token, the likeliest is the greedy one
    for prompt in PROMPTS:
        assert alone(tiny_llama(), prompt, wide) == alone(tiny_llama(), prompt, replace(params, max_tokens=1))


def test_a_score_is_the_sum_of_the_log_probabilities_over_the_length() -> None:
    model = tiny_llama()
    [best] = Engine(model).generate([PROMPTS[0]], search(4, logprobs=2), stop_ids=MANY_STOPS)
    for one in family(best):
        logprobs = model(torch.tensor([one.ids])).logits[0, len(PROMPTS[0]) - 1 : -1].log_softmax(-1)
        wanted = logprobs.gather(-1, torch.tensor(one.tokens)[:, None])[:, 0]
        said = torch.tensor([choice.chosen.logprob for choice in one.choices if choice.chosen])
        torch.testing.assert_close(said, wanted.detach(), rtol=0, atol=1e-4)
        assert one.score == pytest.approx(wanted.sum().item() / len(one.tokens), rel=1e-5)
        assert [len(choice.top) for choice in one.choices] == [2] * len(one.tokens)
        assert len(one.token_times) == len(one.tokens)


# --- company, interruptions, ends ---------------------------------------------------------------------------

COMPANY = [
    SamplingParams(temperature=0, max_tokens=12),
    search(4),
    SamplingParams(seed=2, top_p=0.8, repetition_penalty=1.2, max_tokens=7),
    search(3, n=2, early_stopping=True),
    SamplingParams(seed=5, n=3, max_tokens=9),
]
"""As many prompts as there are parameters, the first two twice."""


@pytest.fixture(params=[tiny_llama, tiny_gpt2, tiny_lstm, tiny_t5], ids=["llama", "gpt2", "lstm", "t5"])
def model(request: pytest.FixtureRequest) -> Any:
    return request.param()


def in_company(engine: Engine, stops: Sequence[int] = MANY_STOPS) -> list[list[tuple[list[int], str | None]]]:
    prompts = [*PROMPTS, *PROMPTS[:2]]
    sources = [[7, 8, 9]] * len(prompts) if isinstance(engine.model, EncoderDecoder) else None
    generations = engine.generate(prompts, COMPANY, stop_ids=stops, sources=sources)
    assert engine.scheduler.num_blocks_in_use == engine.scheduler.holdings.state_slots.num_in_use == 0
    return list(map(results, generations))


@pytest.mark.parametrize(
    "limits", [{}, {"max_requests": 5}, {"tokens_per_step": 12, "max_requests": 7}], ids=str
)
def test_a_search_finds_the_same_alone_and_among_others(model: Any, limits: dict[str, int]) -> None:
    if isinstance(model, EncoderDecoder):
        limits = limits | {"tokens_per_step": 200}
    prompts = [*PROMPTS, *PROMPTS[:2]]
    wanted = [alone(model, prompt, params) for prompt, params in zip(prompts, COMPANY, strict=True)]
    assert in_company(Engine(model, block_size=4, **limits)) == wanted


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2, tiny_t5])
def test_preempted_beams_come_back_undisturbed(
    make: Callable[[], Any], caching: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make()
    layer_bytes = sum(spec.bytes_per_token(4) for spec in model.cache_specs())
    engine = Engine(model, block_size=4, cache_bytes=4 * layer_bytes * 17, prefix_caching=caching)
    preempted: list[Generation] = []
    preempt = engine.scheduler._preempt
    monkeypatch.setattr(engine.scheduler, "_preempt", lambda g: preempted.append(g) or preempt(g))
    prompts = [*PROMPTS, *PROMPTS[:2]]
    wanted = [alone(model, prompt, params, ()) for prompt, params in zip(prompts, COMPANY, strict=True)]
    assert in_company(engine, ()) == wanted
    assert any(generation.search for generation in preempted)


@given(preempted_at=st.sets(st.integers(0, 14), max_size=4), aborted_at=st.integers(0, 14))
@settings(max_examples=10)
def test_at_whatever_moment_all_give_way_a_search_goes_on_where_it_was(
    preempted_at: set[int], aborted_at: int
) -> None:
    model = tiny_lstm()
    engine = Engine(model, max_requests=7)
    kept, given_up = (
        engine.add(Request(tokens=PROMPTS[0], params=search(3), stop_ids=frozenset(MANY_STOPS)))
        for _ in range(2)
    )
    step = 0
    while any(one.finish_reason is None for one in (*family(kept), *family(given_up))):
        if step in preempted_at:
            engine.scheduler.preempt_all()
        if step == aborted_at:
            engine.abort(given_up)
        engine.step()
        step += 1
    wanted = alone(model, PROMPTS[0], search(3))
    assert results(kept) == wanted
    assert results(given_up) in (wanted, [([], "abort")] * 3)
    assert not engine.scheduler.running
    assert not engine.scheduler.waiting


def test_beams_share_the_blocks_of_what_they_have_in_common() -> None:
    engine = Engine(tiny_llama(), block_size=4, prefix_caching=False)
    generation = engine.add(Request(tokens=PROMPTS[2], params=search(4)))
    for _ in range(3):
        engine.step()
    tables = [beam.tables[0].blocks for beam in generation.beams]
    assert len(tables) == len(engine.scheduler.running) == 4
    assert all(table[:5] == tables[0][:5] for table in tables)  # 20 of the prompt's 23 tokens
    assert engine.scheduler.num_blocks_in_use <= 5 + 4 * 2


def test_no_token_is_seen_before_the_search_is_over_and_a_stream_gives_all_then() -> None:
    engine = Engine(tiny_llama())
    generation = engine.add(Request(tokens=[5], params=search(3)))
    for _ in range(11):
        engine.step()
        assert all(not one.tokens for one in family(generation))
    engine.step()
    assert [len(one.tokens) for one in family(generation)] == [12, 12, 12]
    one = search(3, n=1)
    assert [choice.token for choice in engine.stream([5], one)] == generation.tokens

    async def of_a_loop() -> tuple[list[int], list[list[int]]]:
        async with AsyncEngine(engine) as shared:
            streamed = [choice.token async for choice in shared.stream(Request(tokens=[5], params=one))]
            whole = await shared.generate(Request(tokens=[5], params=search(3)))
            return streamed, [one.tokens for one in family(whole)]

    streamed, generated = asyncio.run(of_a_loop())
    assert streamed == generation.tokens
    assert generated == [one.tokens for one in family(generation)]


def test_giving_up_the_first_answer_ends_the_search_and_giving_up_another_does_not() -> None:
    engine = Engine(tiny_llama())
    first, second = (engine.add(Request(tokens=[5], params=search(3))) for _ in range(2))
    for _ in range(4):
        engine.step()
    engine.abort(first)
    engine.abort(second.siblings[0])
    assert len(engine.scheduler.running) == 3
    while second.finish_reason is None:
        engine.step()
    assert [one.finish_reason for one in family(first)] == ["abort"] * 3
    assert [one.finish_reason for one in family(second)] == ["length", "abort", "length"]
    assert engine.scheduler.num_blocks_in_use == 0


def test_guesses_of_what_comes_next_change_no_search() -> None:
    prompt = [80, 36, 84, 80, 36, 84, 80]
    guessing = Engine(tiny_llama(), speculation=PromptLookup())
    both = guessing.generate([prompt, prompt], [search(4), SamplingParams(temperature=0, max_tokens=12)])
    assert guessing.drafts.num_proposed > 0
    assert results(both[0]) == alone(tiny_llama(), prompt, search(4), stops=())


def test_a_search_is_batch_invariant_where_the_engine_is() -> None:
    engine = Engine(tiny_llama(), batch_invariant=True)
    [one] = engine.generate([PROMPTS[0]], search(3))
    [_, other] = Engine(tiny_llama(), batch_invariant=True).generate([PROMPTS[2], PROMPTS[0]], search(3))
    assert [(g.tokens, g.score) for g in family(one)] == [(g.tokens, g.score) for g in family(other)]


def test_a_prompt_is_scored_and_found_in_the_cache_as_ever() -> None:
    engine = Engine(tiny_llama(), block_size=4)
    [first] = engine.generate([PROMPTS[2]], search(3, prompt_logprobs=True))
    [again] = engine.generate([PROMPTS[2]], search(3))
    [sampled] = engine.generate([PROMPTS[2]], SamplingParams(max_tokens=1, prompt_logprobs=True))
    assert [one.prompt_choices for one in family(first)] == [sampled.prompt_choices] * 3
    assert [one.num_cached for one in family(again)] == [20] * 3
    assert results(again) == results(first)


# --- what goes wrong ----------------------------------------------------------------------------------------


class Only(LogitsRule):
    """These two answers: 7 and the stop id 2, or 8 and the stop id 2."""

    def __init__(self, tokens: tuple[int, ...] = ()) -> None:
        self.tokens = tokens

    def allowed(self) -> Tensor:
        mask = torch.zeros(VOCAB_SIZE, dtype=torch.bool)
        mask[[7, 8] if not self.tokens else [2]] = True
        return mask

    def advance(self, token: int) -> None:
        self.tokens = (*self.tokens, token)

    def copy(self) -> "Only":
        return Only(self.tokens)


def test_where_fewer_answers_exist_than_are_asked_for_those_that_do_exist_come() -> None:
    engine = Engine(tiny_llama())
    request = Request(tokens=[5], params=search(4), stop_ids=frozenset({2}), rule=Only())
    generation = engine.add(request)
    while generation.finish_reason is None:
        engine.step()
    *answers, third, fourth = family(generation)
    assert sorted(one.tokens for one in answers) == [[7, 2], [8, 2]]
    for missing in (third, fourth):
        with pytest.raises(RequestError, match="beam_width=4 has found 2 answers, and n=4 were asked for"):
            missing.raise_if_failed()
    [both] = engine.generate([[5]], search(4, n=1, logit_bias={7: -100}), stop_ids=[2])
    assert both.finish_reason == "length"


def test_where_ends_are_alike_answers_that_differ_in_them_alone_are_found_once() -> None:
    def said(ends_alike: bool, prompt: list[int]) -> list[tuple[int, ...]]:
        """The answers without the stop ids at their ends."""
        engine = Engine(tiny_llama())
        stops = frozenset(MANY_STOPS)
        generation = engine.add(
            Request(tokens=prompt, params=search(8), stop_ids=stops, ends_alike=ends_alike)
        )
        while generation.finish_reason is None:
            engine.step()
        return [tuple(t for t in one.tokens if t not in stops) for one in family(generation)]

    repeats = 0
    for prompt in PROMPTS:
        found, once = said(False, prompt), said(True, prompt)
        assert once[0] == found[0]
        assert len(set(once)) == 8
        repeats += len(found) - len(set(found))
    assert repeats


def test_numbers_that_are_none_end_a_search_with_an_error_and_nothing_else() -> None:
    model = tiny_llama()

    def spoil(module: nn.Module, inputs: Any, out: Tensor) -> Tensor:
        return out.masked_fill((inputs[0] == 200)[..., None], float("nan"))

    handle = model.embedding.register_forward_hook(spoil)
    engine = Engine(model)
    wrong, right = (engine.add(Request(tokens=prompt, params=search(3))) for prompt in ([200, 5], [5, 6]))
    while any(one.finish_reason is None for one in (*family(wrong), *family(right))):
        engine.step()
    handle.remove()
    assert [one.finish_reason for one in family(wrong)] == ["error"] * 3
    assert all("not finite numbers" in (one.error or "") for one in family(wrong))
    assert results(right) == alone(model, [5, 6], search(3), stops=())
    assert engine.scheduler.num_blocks_in_use == 0


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"beam_width": 0}, "beam_width=0 is out of range. Give a whole number from 1 to 1024"),
        ({"beam_width": 2, "n": 3}, "n=3 is more than beam_width=2"),
        (
            {"beam_width": 2, "length_penalty": 11},
            "length_penalty=11 is out of range. Give a number from -10 to 10",
        ),
        ({"beam_width": 2, "temperature": 0.7}, "temperature=0.7 is about drawing one. Give temperature=0"),
        ({"beam_width": 2, "top_p": 0.9}, "top_p=0.9 is about drawing one"),
        ({"beam_width": 2, "top_k": 5}, "top_k=5 is about drawing one"),
        ({"beam_width": 2, "seed": 1}, "seed=1 is about drawing one"),
    ],
)
def test_what_does_not_go_with_a_search_is_refused_by_its_name(params: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        SamplingParams(**params)


def test_at_temperature_0_what_is_about_drawing_says_nothing_to_a_search_either() -> None:
    params = search(3, temperature=0, top_p=0.9, top_k=3, seed=1)
    assert alone(tiny_llama(), PROMPTS[0], params) == alone(tiny_llama(), PROMPTS[0], search(3))


def test_a_search_wider_than_what_runs_is_refused() -> None:
    with pytest.raises(RequestError, match="beam_width=4 is more than run at a time: .*max_requests is 3"):
        Engine(tiny_llama(), max_requests=3).add(Request(tokens=[1], params=search(4)))


# --- nothing stays behind -----------------------------------------------------------------------------------


def played(generation: Generation, random: Random) -> Any:
    """What a model could say, for a generation that has seen all of its ids."""
    if generation.search is None:
        return Choice(random.randrange(5))
    tokens = random.sample(range(5), random.randrange(6))
    logprobs = sorted((-random.random() for _ in tokens), reverse=True)
    return Continuations(tuple(map(Choice, tokens)), tuple(logprobs))


def test_five_hundred_random_requests_with_beams_leave_nothing_behind() -> None:
    """With siblings, common beginnings, priorities, windows, failures, and callers who give up."""
    random = Random(0)
    sizes: Any = {"num_blocks": 24, "block_size": 4, "tokens_per_step": 24}
    groups = [Group(**sizes), Group(**sizes, window=6)]
    engine = Scheduler(groups=groups, tokens_per_step=24, max_requests=6, context_length=32)
    beginnings = [[random.randrange(5) for _ in range(14)] for _ in range(8)]
    alive: list[Generation] = []
    ends: dict[str | None, int] = {}
    num_added = num_preempted = 0
    while num_added < 500 or alive:
        for _ in range(random.randrange(4) if num_added < 500 and len(alive) < 40 else 0):
            width = random.choice((1, 1, 2, 3))
            n = random.randint(1, width) if width > 1 else random.choice((1, 3))
            params = SamplingParams(
                max_tokens=random.randint(1, 12),
                n=n,
                beam_width=width,
                length_penalty=random.choice((0.0, 1.0, 2.0)),
                early_stopping=random.choice((True, False)),
            )
            tokens = [*random.choice(beginnings)[: random.randrange(15)], random.randrange(5)]
            request = Request(
                tokens=tokens, params=params, stop_ids=frozenset({0}), priority=random.randint(-1, 1)
            )
            engine.admission.check(request)
            alive += family(engine.add(request))
            num_added += 1
        if alive and random.random() < 0.2:
            engine.abort(random.choice(alive))
        if random.random() < 0.02:
            num_preempted += len(engine.running)
            random.choice([engine.preempt_all, engine.forget])()
        plan = engine.schedule()
        assert 0 < sum(plan.counts.values()) <= 24 or not engine.running
        assert len(engine.running) <= 6
        assert engine.running == sorted(engine.running, key=lambda g: g.rank)
        done = [g for g, count in plan.counts.items() if count == g.num_pending]
        outcomes: Any = {one: [played(one, random)] for g in done for one in (g, *g.unborn)}
        if done and random.random() < 0.05:
            outcomes[random.choice(done)] = [Failure("no number")]
        engine.update(plan, outcomes)
        for one in [g for g in alive if g.finish_reason]:
            ends[one.finish_reason] = ends.get(one.finish_reason, 0) + 1
            assert one.finish_reason == "error" or one.error is None
        alive = [g for g in alive if g.finish_reason is None]
        for number, group in enumerate(groups):
            held = [block for g in engine.running for block in g.tables[number].blocks]
            assert group.pool.num_in_use == len(set(held))
    assert min(ends["stop"], ends["length"], ends["abort"], ends["error"], num_preempted) > 10
    assert engine.num_blocks_in_use == engine.holdings.state_slots.num_in_use == 0
    assert not engine.running
    assert not engine.waiting
