"""Laws of engine/pool_engine.py: what is read together is what is read alone, whoever comes, fails or gives up."""

import asyncio
import weakref
from collections.abc import Callable, Iterator, Sequence
from random import Random
from threading import Event
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from malmoi.core.errors import ConfigError, RequestError
from malmoi.engine import AsyncPoolEngine, PoolEngine, PoolRequest, pool_engine
from malmoi.models import build_model, initialise
from malmoi.models.bert import BertConfig
from malmoi.models.roberta import RobertaConfig
from malmoi.nn.context import Context
from malmoi.nn.heads import first_of_each, mean_of_each
from malmoi.nn.stack import Stack
from malmoi.nn.vision import VisionTower
from malmoi.testing.models import tiny_gpt2, tiny_llama, tiny_llava, tiny_lstm, tiny_t5

SHAPE: dict[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_layers": 2,
    "num_heads": 4,
    "max_positions": 64,
}


def tiny_bert() -> Stack:
    model: Any = initialise(build_model(BertConfig(**SHAPE)), seed=0, std=0.3)
    return model


def tiny_roberta() -> Stack:
    model: Any = initialise(build_model(RobertaConfig(**SHAPE)), seed=0, std=0.3)
    return model


def tiny_vision_tower() -> Any:
    llava = tiny_llava()
    return next(module for module in llava.modules() if isinstance(module, VisionTower))


def states_of_each(hidden: Tensor, lengths: Sequence[int]) -> Sequence[Tensor]:
    return hidden[0].split(list(lengths))


FAMILIES: dict[str, Callable[[], Any]] = {
    "bert": tiny_bert,
    "roberta": tiny_roberta,
    "t5": lambda: tiny_t5().encoder,
    "llama": tiny_llama,
    "gpt2": tiny_gpt2,
    "lstm": tiny_lstm,
}
READS = [mean_of_each, first_of_each, states_of_each]
_random = Random(0)
TEXTS = [[_random.randrange(258) for _ in range(_random.randint(1, 40))] for _ in range(12)]
REQUESTS = [PoolRequest(tokens=text, read=READS[number % 3]) for number, text in enumerate(TEXTS)]


@pytest.fixture(params=FAMILIES.values(), ids=FAMILIES.keys(), scope="module")
def model(request: pytest.FixtureRequest) -> Stack:
    made: Stack = request.param()
    return made


def alone(model: Stack, request: PoolRequest) -> Tensor:
    """Without the engine: rows of one text."""
    tokens = torch.tensor([request.tokens])
    context = Context.dense(tokens, specs=model.cache_specs())
    with torch.inference_mode():
        [result] = request.read(model.hidden(tokens, context), [len(request.tokens)])
    return result


def assert_close(ours: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
    for one, other in zip(ours, wanted, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()


def seen_by(model: Stack, sizes: list[int]) -> Any:
    """While it stands, `sizes` gets the number of tokens of each forward."""
    return model.embedding.register_forward_hook(lambda module, inputs, out: sizes.append(inputs[0].shape[1]))


BERT = tiny_bert()
ALONE = [alone(BERT, request) for request in REQUESTS]


@pytest.mark.parametrize("tokens_per_step", [None, 64, 40])
def test_what_is_read_together_is_what_is_read_alone(model: Stack, tokens_per_step: int | None) -> None:
    found = PoolEngine(model, tokens_per_step=tokens_per_step).pool(REQUESTS)
    assert_close(found, [alone(model, request) for request in REQUESTS])


@settings(deadline=None, max_examples=15)
@given(st.permutations(range(len(TEXTS))), st.lists(st.integers(-1, 1), min_size=12, max_size=12))
def test_results_do_not_depend_on_who_comes_first(order: list[int], priorities: list[int]) -> None:
    requests = [
        PoolRequest(tokens=REQUESTS[number].tokens, read=REQUESTS[number].read, priority=priority)
        for number, priority in zip(order, priorities, strict=True)
    ]
    found = PoolEngine(BERT, tokens_per_step=64).pool(requests)
    assert_close(found, [ALONE[number] for number in order])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(["add", "step", "abort"]), st.integers(0, 11)), max_size=40))
def test_cancelling_at_any_moment_leaves_nothing_and_disturbs_nobody(acts: list[tuple[str, int]]) -> None:
    engine, sizes = PoolEngine(BERT, tokens_per_step=64), list[int]()
    everybody: list[tuple[int, Any]] = []
    with seen_by(BERT, sizes):
        for act, number in acts:
            if act == "add":
                everybody.append((number, engine.add(REQUESTS[number])))
            elif act == "step":
                engine.step()
            elif everybody:
                engine.abort(everybody[number % len(everybody)][1])
        while engine.waiting:
            engine.step()
    assert all(size <= 64 for size in sizes)
    done = [(number, one.result) for number, one in everybody if one.finish_reason == "done"]
    assert_close([result for _, result in done], [ALONE[number] for number, _ in done])
    assert {one.finish_reason for _, one in everybody} <= {"done", "abort"}
    assert sum(sizes) == sum(len(TEXTS[number]) for number, _ in done)  # what was given up was not computed
    traces = [weakref.ref(one) for _, one in everybody]
    everybody.clear()
    assert not any(trace() for trace in traces)


def test_the_first_in_line_are_read_and_nobody_overtakes() -> None:
    engine = PoolEngine(BERT, tokens_per_step=10)
    first, second, third = (engine.add(PoolRequest(tokens=[5] * n, read=mean_of_each)) for n in (6, 6, 2))
    engine.step()
    assert [one.finish_reason for one in (first, second, third)] == ["done", None, None]
    engine.step()
    assert [one.finish_reason for one in (first, second, third)] == ["done"] * 3


def test_a_lower_priority_goes_first_and_a_higher_one_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_engine, "PATIENCE", 3)
    engine = PoolEngine(BERT, tokens_per_step=4)

    def ask(priority: int) -> Any:
        return engine.add(PoolRequest(tokens=[5] * 4, read=mean_of_each, priority=priority))

    patient, usual, urgent = ask(1), ask(0), ask(-1)
    engine.step()
    assert (urgent.finish_reason, usual.finish_reason, patient.finish_reason) == ("done", None, None)
    engine.step()
    assert usual.finish_reason == "done"
    steps = 0
    while patient.finish_reason is None:
        ask(0)
        engine.step()
        steps += 1
        assert steps < 10, "it starves"


def test_token_types_are_those_of_their_request() -> None:
    types = [0, 0, 1, 1]
    typed = PoolRequest(tokens=[5, 6, 7, 8], read=states_of_each, token_types=types)
    plain = PoolRequest(tokens=[5, 6, 7, 8], read=states_of_each)
    found = PoolEngine(BERT).pool([plain, typed, plain])
    with torch.inference_mode():
        wanted = [
            BERT(torch.tensor([[5, 6, 7, 8]]), token_types=torch.tensor([kinds])).hidden[0]
            for kinds in ([0] * 4, types, [0] * 4)
        ]
    assert_close(found, wanted)
    assert not torch.equal(found[0], found[1])


def test_neighbours_with_an_equal_read_are_read_at_once() -> None:
    sizes = []

    def read(hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        sizes.append(len(lengths))
        return mean_of_each(hidden, lengths)

    asked = [PoolRequest(tokens=text, read=one) for text, one in zip(TEXTS, [read] * 5 + READS, strict=False)]
    PoolEngine(BERT).pool(asked)
    assert sizes == [5]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": []}, "nothing to read. Give at least one token"),
        ({"tokens": [5] * 65}, "the request has 65 tokens, but the model has room for 64. Shorten it"),
        ({"tokens": [5] * 50}, r"has 50 tokens, but a step \(the engine's tokens_per_step\) has room for 45"),
        ({"tokens": [5, 259]}, "the request has the id 259, outside of the model's vocabulary, 0 to 258"),
        ({"tokens": [-1]}, "the request has the id -1, outside"),
        ({"tokens": [True]}, "the request has True, of the type bool"),
        ({"priority": True}, "priority=True is no whole number"),
        ({"token_types": [0]}, "the request has 3 tokens, but 1 token_types. Give one for each"),
        ({"token_types": [0, 0, 2]}, "token_types has 2, and this model knows 2 types, counted from 0"),
    ],
)
def test_a_request_that_could_never_be_served_is_refused_and_leaves_the_line_as_it_was(
    changes: dict[str, Any], message: str
) -> None:
    engine = PoolEngine(BERT, tokens_per_step=45)
    given: dict[str, Any] = {"tokens": [5, 6, 7], "read": mean_of_each} | changes
    bad = PoolRequest(**given)
    for ask in (engine.add, lambda request: engine.pool([REQUESTS[0], request])):
        with pytest.raises(RequestError, match=message):
            ask(bad)
    assert not engine.waiting
    assert_close(engine.pool(REQUESTS), ALONE)


def test_a_model_without_types_refuses_them() -> None:
    with pytest.raises(RequestError, match="this model knows 0 types"):
        PoolEngine(tiny_llama()).add(PoolRequest(tokens=[5], read=mean_of_each, token_types=[0]))


@pytest.mark.parametrize("make", [tiny_t5, tiny_vision_tower])
def test_what_reads_no_tokens_cannot_be_asked(make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError, match="is no stack that reads tokens"):
        PoolEngine(make())


def spoil(module: Any, inputs: Any, out: Tensor) -> Tensor:
    return out.masked_fill((inputs[0] == 258)[..., None], torch.nan)


def test_nan_in_the_states_ends_that_request_alone() -> None:
    engine = PoolEngine(BERT)
    with BERT.embedding.register_forward_hook(spoil):
        good, bad, better = (
            engine.add(PoolRequest(tokens=ids, read=first_of_each)) for ids in ([5, 6], [5, 258], [7])
        )
        engine.step()
        with pytest.raises(RequestError, match="not finite. Its weights are damaged"):
            engine.pool([PoolRequest(tokens=[258], read=first_of_each)])
    assert (bad.finish_reason, bad.result) == ("error", None)
    wanted = [alone(BERT, good.request), alone(BERT, better.request)]
    assert_close([good.read_result(), better.read_result()], wanted)
    assert not engine.waiting


def test_a_result_that_is_not_finite_ends_that_request_alone() -> None:
    def read(hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        return mean_of_each(hidden, lengths) / torch.tensor([[1.0], [0.0], [1.0]])

    engine = PoolEngine(BERT)
    everybody = [engine.add(PoolRequest(tokens=[5, 6], read=read)) for _ in range(3)]
    engine.step()
    assert [one.finish_reason for one in everybody] == ["done", "error", "done"]


def test_a_step_that_fails_is_begun_again() -> None:
    failures = iter([True])

    def read(hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        if next(failures, False):
            raise MemoryError("no room")
        return mean_of_each(hidden, lengths)

    engine = PoolEngine(BERT)
    everybody = [engine.add(PoolRequest(tokens=text, read=read)) for text in TEXTS]
    with pytest.raises(MemoryError):
        engine.step()
    while engine.waiting:
        engine.step()
    wanted = [alone(BERT, PoolRequest(tokens=text, read=mean_of_each)) for text in TEXTS]
    assert_close([one.read_result() for one in everybody], wanted)


# --- behind an event loop ----------------------------------------------------------------------------------


@pytest.fixture
def gate() -> Iterator[tuple[Event, Event]]:
    """The first forward has begun; it may end."""
    has_begun, may_end = Event(), Event()

    def wait(module: Any, inputs: Any, out: Tensor) -> None:
        has_begun.set()
        assert may_end.wait(30)

    with BERT.embedding.register_forward_hook(wait):
        yield has_begun, may_end


def run(coroutine: Any) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


async def until(event: Event) -> None:
    while not event.is_set():
        await asyncio.sleep(0.001)


def test_requests_of_many_coroutines_get_what_they_get_alone() -> None:
    async def main() -> None:
        async with AsyncPoolEngine(PoolEngine(BERT, tokens_per_step=64)) as engine:
            assert_close(await asyncio.gather(*map(engine.pool, REQUESTS)), ALONE)

    run(main())


def test_what_comes_while_a_step_runs_is_read_together_in_the_next_and_the_loop_goes_on(
    gate: tuple[Event, Event],
) -> None:
    has_begun, may_end = gate
    sizes: list[int] = []

    async def main() -> None:
        async with AsyncPoolEngine(PoolEngine(BERT)) as engine:
            first = asyncio.create_task(engine.pool(REQUESTS[0]))
            await until(has_begun)
            others = [asyncio.create_task(engine.pool(request)) for request in REQUESTS[1:]]
            await asyncio.sleep(0)
            others[0].cancel()
            await asyncio.sleep(0)
            may_end.set()
            assert_close([await first, *await asyncio.gather(*others[1:])], [ALONE[0], *ALONE[2:]])

    with seen_by(BERT, sizes):
        run(main())
    assert sizes == [len(TEXTS[0]), sum(map(len, TEXTS[2:]))]


def test_whoever_stops_waiting_leaves_nothing_behind(gate: tuple[Event, Event]) -> None:
    has_begun, may_end = gate
    engine = PoolEngine(BERT)

    async def main() -> None:
        async with AsyncPoolEngine(engine) as ours:
            tasks = [asyncio.create_task(ours.pool(request)) for request in REQUESTS]
            await until(has_begun)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
            may_end.set()
            assert_close([await ours.pool(REQUESTS[0])], ALONE[:1])
            assert not engine.waiting

    run(main())


def test_a_refusal_and_a_failure_reach_whoever_asked_and_nobody_else() -> None:
    async def main() -> None:
        async with AsyncPoolEngine(PoolEngine(BERT)) as engine:
            bad = [PoolRequest(tokens=ids, read=mean_of_each) for ids in ([], [258])]
            results = await asyncio.gather(*map(engine.pool, [*bad, REQUESTS[0]]), return_exceptions=True)
        assert "nothing to read" in str(results[0])
        assert "not finite" in str(results[1])
        assert_close([results[2]], ALONE[:1])
        with pytest.raises(RequestError, match="was closed"):
            await engine.pool(REQUESTS[0])

    with BERT.embedding.register_forward_hook(spoil):
        run(main())
