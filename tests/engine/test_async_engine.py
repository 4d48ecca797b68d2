"""The engine behind an event loop: the same tokens, for each caller alone, and the loop never waits for a step."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import aclosing
from threading import Event
from traceback import format_exception
from typing import Any, TypeVar

import pytest
import torch

from malmoi.core.errors import RequestError
from malmoi.engine import AsyncEngine, Engine, Request, SamplingParams
from malmoi.engine.scheduler import Plan
from malmoi.testing.models import tiny_llama

PROMPTS = [[5, 6, 7, 8, 9], [40], list(range(60, 83)), [3, 3, 3]]
REQUESTS = [
    Request(tokens=prompt, params=SamplingParams(seed=seed, max_tokens=8 + seed))
    for seed, prompt in enumerate(PROMPTS)
]
ENDLESS = Request(tokens=[5], params=SamplingParams(seed=1, ignore_eos=True))

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


@pytest.fixture
def engine() -> Engine:
    return Engine(tiny_llama(max_positions=8192), block_size=4)


@pytest.fixture(scope="module")
def wanted() -> list[list[int]]:
    engine = Engine(tiny_llama())
    return [engine.generate([r.tokens], r.params)[0].tokens for r in REQUESTS]


async def read(engine: AsyncEngine, request: Request) -> list[int]:
    return [choice.token async for choice in engine.stream(request)]


async def until_idle(engine: Engine) -> None:
    while engine.scheduler.running or engine.scheduler.waiting:
        await asyncio.sleep(0.001)


def test_streams_and_whole_answers_are_those_of_the_engine(engine: Engine, wanted: list[list[int]]) -> None:
    async def main() -> None:
        async with AsyncEngine(engine) as ours:
            streams, answers = await asyncio.gather(
                asyncio.gather(*(read(ours, request) for request in REQUESTS)),
                asyncio.gather(*(ours.generate(request) for request in REQUESTS)),
            )
        assert streams == [answer.tokens for answer in answers] == wanted

    run(main())
    assert engine.scheduler.num_blocks_in_use == 0


def test_an_answer_comes_with_all_of_its_siblings(engine: Engine) -> None:
    async def main() -> None:
        async with AsyncEngine(engine) as ours:
            params = SamplingParams(n=3, seed=1, max_tokens=5)
            first = await ours.generate(Request(tokens=[5], params=params))
            assert [len(one.tokens) for one in (first, *first.siblings)] == [5, 5, 5]
            with pytest.raises(RequestError, match="n=3, and a stream gives one answer"):
                await anext(ours.stream(Request(tokens=[5], params=params)))

    run(main())


def test_a_request_that_is_refused_says_so_to_whoever_asked(engine: Engine, wanted: list[list[int]]) -> None:
    async def main() -> None:
        async with AsyncEngine(engine) as ours:
            good = asyncio.create_task(read(ours, REQUESTS[0]))
            for ask in (ours.generate, lambda request: read(ours, request)):
                with pytest.raises(RequestError, match="the prompt is empty"):
                    await ask(Request(tokens=[]))
            assert await good == wanted[0]

    run(main())


def test_one_that_computes_nonsense_ends_alone(engine: Engine, wanted: list[list[int]]) -> None:
    def spoil(module: Any, inputs: Any, out: torch.Tensor) -> torch.Tensor:
        return out.masked_fill((inputs[0] == 200)[..., None], torch.nan)

    async def main() -> None:
        async with AsyncEngine(engine) as ours:
            good = asyncio.create_task(read(ours, REQUESTS[0]))
            with pytest.raises(RequestError, match="not finite"):
                await ours.generate(Request(tokens=[200, 1]))
            assert await good == wanted[0]

    with engine.model.embedding.register_forward_hook(spoil):
        run(main())


@pytest.mark.parametrize("is_stream", [True, False])
def test_whoever_stops_waiting_ends_the_generation(engine: Engine, is_stream: bool) -> None:
    async def main() -> None:
        async with AsyncEngine(engine) as ours:
            task = asyncio.create_task(read(ours, ENDLESS) if is_stream else ours.generate(ENDLESS))
            while not engine.scheduler.running:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until_idle(engine)
            assert engine.scheduler.num_blocks_in_use == 0

    run(main())


def test_closing_a_stream_ends_the_generation(engine: Engine) -> None:
    async def main() -> None:
        async with AsyncEngine(engine) as ours:
            async with aclosing(ours.stream(ENDLESS)) as stream:
                await anext(stream)
            await until_idle(engine)

    run(main())


def test_the_loop_does_not_wait_for_a_step(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step ends only after the loop has gone on."""
    has_begun, may_end = Event(), Event()
    whole = engine.runner.run

    def long(plan: Plan) -> Any:
        has_begun.set()
        assert may_end.wait(30)
        return whole(plan)

    monkeypatch.setattr(engine.runner, "run", long)

    async def main() -> None:
        async with AsyncEngine(engine) as ours:
            task = asyncio.create_task(ours.generate(REQUESTS[0]))
            while not has_begun.is_set():
                await asyncio.sleep(0.001)
            others = [asyncio.create_task(ours.generate(request)) for request in REQUESTS[1:]]
            for _ in range(100):
                await asyncio.sleep(0)
            others[0].cancel()
            may_end.set()
            await task
            await asyncio.gather(*others[1:])

    run(main())


def test_a_step_that_fails_is_told_to_all_that_wait_and_the_next_request_is_served(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, wanted: list[list[int]]
) -> None:
    whole = engine.runner.run
    failures: Iterator[bool] = iter([False, False, True])

    def breaking(plan: Plan) -> Any:
        if next(failures, False):
            raise MemoryError("no room")
        return whole(plan)

    monkeypatch.setattr(engine.runner, "run", breaking)

    async def main() -> None:
        async with AsyncEngine(engine) as ours:
            results = await asyncio.gather(*map(ours.generate, REQUESTS), return_exceptions=True)
            assert [type(result) for result in results] == [MemoryError] * 4
            assert await read(ours, REQUESTS[0]) == wanted[0]

    run(main())


class Uncopyable(Exception):
    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}")


class Changing(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return ValueError, self.args


@pytest.mark.parametrize(
    ("failure", "wanted_type"),
    [(MemoryError("no room"), MemoryError), (OSError(5, "no disk"), OSError),
     (Uncopyable("layer 3", "no room"), RuntimeError), (Changing("no room"), RuntimeError)],
)  # fmt: skip
def test_each_that_waits_gets_an_error_of_its_own(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, failure: Exception, wanted_type: type[Exception]
) -> None:
    """So nobody's traceback grows with the number of those that wait."""

    async def lines_for_each_of(num_waiting: int) -> set[int]:
        whole, failure.__traceback__ = engine.runner.run, None

        def breaking(plan: Plan) -> Any:
            if len(engine.scheduler.running) + len(engine.scheduler.waiting) == num_waiting:
                raise failure
            return whole(plan)

        with monkeypatch.context() as patch:
            patch.setattr(engine.runner, "run", breaking)
            async with AsyncEngine(engine) as ours:
                answers = [ours.generate(ENDLESS) for _ in range(num_waiting)]
                results = await asyncio.gather(*answers, return_exceptions=True)
        errors = [result for result in results if type(result) is wanted_type]
        assert len(set(map(id, errors))) == num_waiting
        wanted = str(failure) if wanted_type is type(failure) else repr(failure)
        assert [str(error) for error in errors] == [wanted] * num_waiting
        assert all(error.__cause__ is failure for error in errors)
        return {len(format_exception(error)) for error in errors}

    assert len(run(lines_for_each_of(1)) | run(lines_for_each_of(16))) == 1


def test_a_closed_engine_ends_what_is_going_on_and_takes_nothing_more(engine: Engine) -> None:
    async def main() -> None:
        ours = AsyncEngine(engine)
        await ours.close()  # nothing had begun
        ours = AsyncEngine(engine)
        task = asyncio.create_task(read(ours, ENDLESS))
        while not engine.scheduler.running:
            await asyncio.sleep(0.001)
        await ours.close()
        with pytest.raises(RequestError, match="closed before the answer was complete"):
            await task
        with pytest.raises(RequestError, match="was closed. Make another"):
            await ours.generate(ENDLESS)

    run(main())
    assert engine.scheduler.num_blocks_in_use == 0
