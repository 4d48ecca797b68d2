"""Speculation changes how many steps an answer takes, never the answer: whoever guesses, whatever is asked."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from random import Random
from typing import Any

import pytest
import torch

from malmoi.core.errors import ConfigError, RequestError
from malmoi.engine import (
    Drafter,
    DraftModel,
    Engine,
    Generation,
    LogitsRule,
    PromptLookup,
    Request,
    SamplingParams,
)
from malmoi.engine.blocks import Table
from malmoi.engine.groups import Group
from malmoi.engine.request import Choice
from malmoi.engine.scheduler import Plan, Scheduler
from malmoi.engine.speculate import Trial
from malmoi.models import build_model, initialise
from malmoi.models.gemma2 import Gemma2Config
from malmoi.models.mistral import MistralConfig
from malmoi.testing.models import VOCAB_SIZE, tiny_gpt2, tiny_llama, tiny_lstm, tiny_t5

WINDOWED: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE, "hidden_size": 32, "intermediate_size": 32, "num_layers": 3, "num_heads": 2,
    "num_kv_heads": 1, "head_dim": 16, "max_positions": 128, "window": 6,
}  # fmt: skip


def tiny_mistral() -> Any:
    return initialise(build_model(MistralConfig(**WINDOWED)), seed=0, std=0.4).eval()


def tiny_gemma2() -> Any:
    return initialise(build_model(Gemma2Config(**WINDOWED, layer_pattern="LGL")), seed=0, std=0.4).eval()


class Steps(LogitsRule):
    """Each token is larger than the one before, by 40 at most; after the largest there is no way on."""

    def __init__(self, last: int = 0) -> None:
        self.last = last

    def allowed(self) -> torch.Tensor:
        if self.last >= VOCAB_SIZE - 1:
            raise RequestError("there is nothing larger. Begin with less.")
        ids = torch.arange(VOCAB_SIZE)
        return (ids > self.last) & (ids <= self.last + 40)

    def advance(self, token: int) -> None:
        self.last = token

    def copy(self) -> "Steps":
        return Steps(self.last)


class Oracle(Drafter):
    """Knows the answers, by prompt, and lies about every `lie`-th token; what it has to say does not end."""

    def __init__(
        self, answers: Mapping[tuple[int, ...], Sequence[int]], *, lie: int = 0, num_tokens: int = 5
    ) -> None:
        self.answers, self.lie, self.num_tokens = answers, lie, num_tokens

    def propose(self, limits: Mapping[Generation, int]) -> dict[Generation, list[int]]:
        drafts = {}
        for generation in limits:
            done = len(generation.tokens)
            answer = [*self.answers[generation.request.tokens, generation.request.params.seed], *[0] * 200]  # type: ignore[index]
            drafts[generation] = [
                (token + 1) % VOCAB_SIZE if self.lie and not place % self.lie else token
                for place, token in enumerate(answer[done : done + self.num_tokens], start=done)
            ]
        return drafts


REQUESTS = [
    Request(tokens=prompt, params=params, stop_ids=frozenset(stop_ids), rule=rule)
    for prompt, params, stop_ids, rule in (
        ([5, 6, 7, 8, 9], SamplingParams(seed=0, temperature=0, max_tokens=30), [], None),
        ([40], SamplingParams(seed=1, max_tokens=20, logprobs=3), [], None),
        (range(60, 83), SamplingParams(seed=2, top_p=0.8, repetition_penalty=1.2, max_tokens=7), [], None),
        (
            [3, 3, 3],
            SamplingParams(seed=3, temperature=1.5, top_k=20, frequency_penalty=0.5),
            range(30),
            None,
        ),
        (
            [9] * 8,
            SamplingParams(seed=4, temperature=0.2, presence_penalty=-2.0, penalty_scope="all"),
            [],
            None,
        ),
        ([7, 8] * 5, SamplingParams(seed=5, min_tokens=9, max_tokens=40), range(0, 259, 3), None),
        ([50, 51], SamplingParams(seed=6, typical_p=0.9, max_tokens=60), [], Steps()),
        (
            [1, 2, 3, 1, 2],
            SamplingParams(seed=7, min_p=0.1, logit_bias={1: 9.0, 2: 9.0}, max_tokens=33),
            [],
            None,
        ),
    )
]
MODELS = {
    "llama": tiny_llama, "gpt2": tiny_gpt2, "window": tiny_mistral, "mixed": tiny_gemma2, "t5": tiny_t5,
}  # fmt: skip
LIMITS: dict[str, Any] = {"block_size": 4, "max_requests": 6, "tokens_per_step": 40}


def key(request: Request) -> tuple[Any, Any]:
    return tuple(request.tokens), request.params.seed


def run(engine: Engine, requests: Sequence[Request]) -> list[Generation]:
    has_source = engine.scheduler.admission.source_length > 0
    generations = [
        engine.add(Request(**(vars(request) | {"source": [5, 6, 7] if has_source else None})))
        for request in requests
    ]
    while any(generation.finish_reason is None for generation in generations):
        engine.step()
    assert engine.scheduler.num_blocks_in_use == 0
    return generations


def ends(generations: Sequence[Generation]) -> list[tuple[list[int], str | None, str | None]]:
    return [(generation.tokens, generation.finish_reason, generation.error) for generation in generations]


def numbers(generation: Generation) -> torch.Tensor:
    """All that was said beside the tokens."""
    rows = [candidate for choice in generation.choices for candidate in (choice.chosen, *choice.top)]
    return torch.tensor(rows, dtype=torch.float64)


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys(), scope="module")
def model(request: pytest.FixtureRequest) -> Any:
    return request.param()


@pytest.fixture(scope="module")
def plain(model: Any) -> list[Generation]:
    return run(Engine(model, **LIMITS), REQUESTS)


def answers(plain: Sequence[Generation]) -> dict[Any, list[int]]:
    return {key(generation.request): generation.tokens for generation in plain}


DRAFTERS: dict[str, Callable[[Any], Drafter]] = {
    "lookup": lambda known: PromptLookup(),
    "long lookup": lambda known: PromptLookup(num_tokens=20, ngram=1),
    "model": lambda known: DraftModel(tiny_llama(seed=1, num_layers=1)),
    "right": lambda known: Oracle(known),
    "mostly right": lambda known: Oracle(known, lie=4),
    "wrong": lambda known: Oracle(known, lie=1),
}


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name, marks=[pytest.mark.slow] if name == "model" else [])
        for name, make in DRAFTERS.items()
    ],
)
def test_whoever_guesses_the_answers_are_the_plain_ones(
    model: Any, plain: list[Generation], make: Callable[[Any], Drafter]
) -> None:
    engine = Engine(model, **LIMITS, speculation=make(answers(plain)))
    guessed = run(engine, REQUESTS)
    assert ends(guessed) == ends(plain)
    assert engine.drafts.num_proposed > 0
    torch.testing.assert_close(numbers(guessed[1]), numbers(plain[1]), rtol=1e-5, atol=1e-5)
    assert ends(run(engine, REQUESTS)) == ends(plain)  # with what the first left in the cache


def test_what_the_answers_are_covers_every_way_to_end() -> None:
    plain = run(Engine(tiny_llama(), **LIMITS), REQUESTS)
    assert {generation.finish_reason for generation in plain} == {"stop", "length", "error"}


def test_a_right_guess_saves_a_step_and_a_wrong_one_costs_none() -> None:
    model, [request] = tiny_llama(), [REQUESTS[0]]
    known = answers(run(Engine(model), [request]))
    num_steps = {}
    for lie in (0, 1):
        engine = Engine(model, speculation=Oracle(known, lie=lie))
        generation = engine.add(request)
        num_steps[lie] = 0
        while generation.finish_reason is None:
            engine.step()
            num_steps[lie] += 1
    assert num_steps == {0: 1 + 5, 1: 1 + 29}  # the prompt's, then 29 tokens: 6, 6, 6, 6, 5


def test_a_model_that_guesses_for_itself_is_always_right_at_any_temperature() -> None:
    model = tiny_llama()
    engine = Engine(model, speculation=DraftModel(tiny_llama()), **LIMITS)
    run(engine, REQUESTS)
    assert (
        engine.drafts.num_accepted >= 0.9 * engine.drafts.num_proposed > 50
    )  # a stop ends what was guessed behind it
    run(engine, [REQUESTS[1]])
    before = engine.drafts.num_proposed - engine.drafts.num_accepted
    run(engine, [REQUESTS[1], REQUESTS[4]])
    assert engine.drafts.num_proposed - engine.drafts.num_accepted == before


def test_siblings_guess_each_for_itself() -> None:
    model = tiny_llama()
    params = SamplingParams(n=4, seed=5, temperature=0.5, max_tokens=25)
    wanted, found = (
        [one.tokens for one in (first, *first.siblings)]
        for speculation in (None, PromptLookup(ngram=1))
        for first in Engine(model, **LIMITS, speculation=speculation).generate([[4, 5] * 5], params)
    )
    assert found == wanted


@pytest.mark.slow
def test_the_distribution_is_the_models() -> None:
    """Three tokens of a vocabulary of six, drawn 2,000 times behind one prompt, with the same guess each time."""
    model = tiny_llama(vocab_size=6, seed=3)
    prompt, num_draws = [1, 2], 2000

    class Two(Drafter):
        def propose(self, limits: Mapping[Generation, int]) -> dict[Generation, list[int]]:
            return {generation: [2, 3] for generation in limits}

    with torch.inference_mode():
        first = model(torch.tensor([prompt])).logits[0, -1].softmax(-1)
        rows = model(torch.tensor([[*prompt, token] for token in range(6)])).logits[:, -1].softmax(-1)
        thirds = (
            model(torch.tensor([[*prompt, a, b] for a, b in product(range(6), range(6))]))
            .logits[:, -1]
            .softmax(-1)
        )
    expected = (first[:, None] * rows).flatten()[:, None] * thirds
    engine = Engine(model, max_requests=64, speculation=Two())
    params = [SamplingParams(max_tokens=4, seed=seed) for seed in range(num_draws)]
    drawn = Counter(tuple(g.tokens[:3]) for g in engine.generate([prompt] * num_draws, params))
    assert 0.05 < engine.drafts.num_accepted / engine.drafts.num_proposed < 0.95
    counts = torch.tensor([drawn[triple] for triple in product(range(6), repeat=3)])
    wanted = num_draws * expected.flatten()
    is_often = wanted >= 5
    counts, wanted = (torch.cat([x[is_often], x[~is_often].sum()[None]]).double() for x in (counts, wanted))
    assert len(counts) > 50
    surprise, degrees = ((counts - wanted).square() / wanted).sum(), len(counts) - 1
    # Chi-square: its mean are the degrees of freedom, its variance twice that.
    assert abs(surprise - degrees) < 4 * (2 * degrees) ** 0.5


def test_wrong_guesses_take_no_memory_from_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gives way without guesses does so with them, in the same step, and nobody else."""
    model = tiny_llama()
    known = answers(run(Engine(model), REQUESTS))
    block = 4 * sum(spec.bytes_per_token(4) for spec in model.cache_specs())
    logs = []
    for speculation in (None, Oracle(known, lie=1)):
        engine = Engine(
            model, block_size=4, cache_bytes=12 * block, prefix_caching=False, speculation=speculation
        )
        log: list[tuple[Any, ...]] = []
        preempt, update = engine.scheduler._preempt, engine.scheduler.update

        def noted(g: Generation, log: Any = log, preempt: Any = preempt) -> None:
            log.append(g.request.params.seed)
            preempt(g)

        def counted(*args: Any, engine: Any = engine, log: Any = log, update: Any = update) -> None:
            update(*args)
            log.append(("blocks", engine.scheduler.num_blocks_in_use))

        monkeypatch.setattr(engine.scheduler, "_preempt", noted)
        monkeypatch.setattr(engine.scheduler, "update", counted)
        run(engine, REQUESTS[:6])
        logs.append(log)
    assert logs[0] == logs[1]
    assert sum(isinstance(entry, int) for entry in logs[0]) >= 2


def test_a_step_that_fails_leaves_no_guess_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_llama()
    plain = run(Engine(model), REQUESTS)
    engine = Engine(model, **LIMITS, speculation=Oracle(answers(plain), lie=3))
    whole, random = engine.runner.run, Random(0)

    def breaking(plan: Plan) -> Any:
        outcomes = whole(plan)
        if random.random() < 0.2:
            raise MemoryError("no room")
        return outcomes

    monkeypatch.setattr(engine.runner, "run", breaking)
    generations = [engine.add(request) for request in REQUESTS]
    num_failed = 0
    while any(generation.finish_reason is None for generation in generations):
        try:
            engine.step()
        except MemoryError:
            num_failed += 1
    assert num_failed > 1
    assert ends(generations) == ends(plain)


@pytest.mark.parametrize("window", [None, 6])
def test_thousands_of_guesses_leave_nothing_behind(window: int | None) -> None:
    """The scheduler alone: common beginnings, siblings, callers who give up, guesses of any length."""
    random = Random(0)
    sizes: Any = {"num_blocks": 40, "block_size": 4, "tokens_per_step": 24}
    groups = [Group(**sizes), *([Group(**sizes, window=window)] if window else [])]
    engine = Scheduler(groups=groups, tokens_per_step=24, max_requests=6, context_length=32)

    class Any5(Drafter):
        def propose(self, limits: Mapping[Generation, int]) -> dict[Generation, list[int]]:
            return {
                g: [random.randrange(3) for _ in range(random.randrange(limit + 2))]
                for g, limit in limits.items()
                if random.random() < 0.8
            }

    alive: list[Generation] = []
    num_added = 0
    while num_added < 1500 or alive:
        for _ in range(random.randrange(5) if num_added < 1500 and len(alive) < 40 else 0):
            tokens = [random.randrange(2) for _ in range(random.randint(1, 14))]
            params = SamplingParams(max_tokens=random.randint(1, 12), n=random.choice((1, 1, 3)))
            generation = engine.add(Request(tokens=tokens, params=params))
            alive += [generation, *generation.siblings]
            num_added += 1
        if alive and random.random() < 0.2:
            engine.abort(random.choice(alive))
        if random.random() < 0.01:
            engine.preempt_all()
        plan = engine.schedule()
        engine.draft(plan, Any5())
        assert sum(plan.counts.values()) <= 24
        for g, count in plan.counts.items():
            assert all(
                table.end * 4 >= min(g.num_computed + count, len(g.ids) + len(g.draft)) for table in g.tables
            )
        chosen = {
            one: [Choice(random.randrange(3)) for _ in range(1 + len(one.draft))]
            for g, count in plan.counts.items()
            if count == g.num_pending + len(g.draft)
            for one in (g, *g.unborn)
        }
        engine.update(plan, chosen)
        alive = [g for g in alive if g.finish_reason is None]
        assert all(not g.draft for g in alive)
        assert all(g.num_computed == len(g.ids) - 1 for g in chosen if g.finish_reason is None and g.tables)
        for number, group in enumerate(groups):
            held = [block for g in engine.running for block in g.tables[number].blocks]
            assert group.pool.num_in_use == len(set(held))
    assert engine.drafts.num_proposed > engine.drafts.num_accepted > 500
    assert engine.num_blocks_in_use == engine.holdings.state_slots.num_in_use == 0


def test_only_what_was_counted_is_found_again() -> None:
    engine = Scheduler(
        groups=[Group(num_blocks=8, block_size=2, tokens_per_step=9)],
        tokens_per_step=9, max_requests=2, context_length=16,
    )  # fmt: skip
    generation = engine.add(Request(tokens=[1, 2, 3]))
    engine.update(engine.schedule(), {generation: [Choice(4)]})
    plan = engine.schedule()
    engine.draft(plan, Oracle({(generation.request.tokens, None): [4, 5, 6, 7, 8]}, num_tokens=4))
    assert plan.counts == {generation: 5}
    engine.update(plan, {generation: [Choice(token) for token in (5, 6, 9, 9, 9)]})
    assert (generation.ids, generation.num_computed) == ([1, 2, 3, 4, 5, 6, 9], 6)
    assert len(engine.holdings.groups[0].pool._keys) == 3
    assert generation.tables[0] == Table(0, generation.tables[0].blocks[:3])


def test_nobody_guesses_beyond_the_budget_of_a_step_the_answer_or_the_context() -> None:
    engine = Scheduler(
        groups=[Group(num_blocks=16, block_size=4, tokens_per_step=8)],
        tokens_per_step=8, max_requests=4, context_length=12,
    )  # fmt: skip
    oracle = Oracle({((1, 2), seed): [7] * 9 for seed in range(3)}, num_tokens=9)
    for seed, max_tokens in enumerate((4, None, 2)):
        engine.add(Request(tokens=[1, 2], params=SamplingParams(max_tokens=max_tokens, seed=seed)))
    engine.update(engine.schedule(), {g: [Choice(7)] for g in engine.running})
    plan = engine.schedule()
    engine.draft(plan, oracle)
    assert {g.request.params.seed: count for g, count in plan.counts.items()} == {2: 1, 0: 3, 1: 4}
    for generation in engine.running[:1]:
        engine.abort(generation)


def test_what_cannot_guess_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot take back a token"):
        Engine(tiny_lstm(), speculation=PromptLookup())
    with pytest.raises(ConfigError, match="read everything again for every guess"):
        DraftModel(tiny_lstm())
    with pytest.raises(ConfigError, match="vocabulary of 97, and this model one of 259"):
        Engine(tiny_llama(), speculation=DraftModel(tiny_llama(vocab_size=97)))
    with pytest.raises(ConfigError, match="speculation='always' guesses nothing"):
        Engine(tiny_llama(), speculation="always")
    with pytest.raises(ConfigError, match="num_tokens=0"):
        PromptLookup(num_tokens=0)
    with pytest.raises(ConfigError, match="num_tokens=0"):
        DraftModel(tiny_llama(), num_tokens=0)


def test_a_trial_keeps_what_is_faster_and_asks_again() -> None:
    trial = Trial(length=4, pause=10)

    def run(num_steps: int, num_guessed: int) -> list[bool]:
        was_on = []
        for _ in range(num_steps):
            was_on.append(trial.is_on)
            trial.note(0.12 if trial.is_on else 0.10, 1 + num_guessed * trial.is_on)
        return was_on

    assert run(8, num_guessed=0) == [True, False] * 4
    assert run(10, num_guessed=0) == [False] * 10
    assert sorted(run(8, num_guessed=1)) == [False] * 4 + [True] * 4
    assert run(10, num_guessed=1) == [True] * 10


def test_auto_gives_the_same_answers() -> None:
    plain = run(Engine(tiny_llama(), **LIMITS), REQUESTS)
    engine = Engine(tiny_llama(), **LIMITS, speculation="auto")
    assert ends(run(engine, REQUESTS)) == ends(plain)
    assert engine.drafts.num_proposed > 0
