"""The engine behind an event loop: the same tokens, for each caller alone, and the loop never waits for a step."""

import asyncio
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import aclosing, suppress
from queue import SimpleQueue
from threading import Barrier, BrokenBarrierError, Event, Thread
from traceback import format_exception
from typing import Any, TypeVar

import pytest
import torch

from malmoi.core.errors import RequestError
from malmoi.engine import AsyncEngine, Engine, Generation, LogitsRule, Request, SamplingParams, engine_thread
from malmoi.engine.engine_thread import EngineThread
from malmoi.engine.progress import Follower, Progress
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


class Panic(BaseException):
    """No Exception, as what a panic in Rust raises is none."""


class Uncopyable(Exception):
    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where}: {why}")


class Changing(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return ValueError, self.args


class Unspeakable(Exception):
    """It can be neither copied nor shown."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise Panic("copy")

    def __repr__(self) -> str:
        raise ValueError("no words")


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


class Panicking(LogitsRule):
    """Its first `num_good` calls of one method are good."""

    def __init__(self, method: str, num_good: int) -> None:
        self.method, self.num_good = method, num_good

    def allowed(self) -> None:
        self._note("allowed")

    def advance(self, token: int) -> None:
        self._note("advance")

    def copy(self) -> "Panicking":
        self._note("copy")
        return Panicking(self.method, self.num_good)

    def _note(self, method: str) -> None:
        if method == self.method:
            self.num_good -= 1
            if self.num_good < 0:
                raise Panic(method)


@pytest.mark.parametrize(
    ("method", "num_good"),
    [("copy", 0), ("allowed", 0), ("allowed", 2), ("advance", 0), ("advance", 2)],
)
def test_whatever_panics_is_told_and_the_thread_goes_on(
    engine: Engine, wanted: list[list[int]], method: str, num_good: int
) -> None:
    """To whoever asked if it could not begin (`copy`), to all if it was a step."""
    is_step = method != "copy"

    async def main() -> None:
        async with AsyncEngine(engine) as ours:
            other = asyncio.create_task(ours.generate(ENDLESS if is_step else REQUESTS[1]))
            with pytest.raises(RuntimeError, match=f"Panic.'{method}'."):
                await ours.generate(Request(tokens=[5, 6], rule=Panicking(method, num_good)))
            if is_step:
                with pytest.raises(RuntimeError, match=f"Panic.'{method}'."):
                    await other
            else:
                assert (await other).tokens == wanted[1]
            assert await read(ours, REQUESTS[0]) == wanted[0]

    run(main())
    assert engine.scheduler.num_blocks_in_use == 0


def test_who_cannot_be_given_up_does_not_keep_the_others(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, wanted: list[list[int]]
) -> None:
    def breaking(generation: Generation) -> None:
        raise Panic("abort")

    async def main() -> None:
        async with AsyncEngine(engine) as ours:
            tasks = [asyncio.create_task(ours.generate(ENDLESS)) for _ in range(3)]
            while len(engine.scheduler.running) < 3:
                await asyncio.sleep(0.001)
            with monkeypatch.context() as patch:
                patch.setattr(engine, "abort", breaking)
                tasks[0].cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(result) for result in results] == [
                asyncio.CancelledError,
                RuntimeError,
                RuntimeError,
            ]
            assert {str(result) for result in results[1:]} == {"Panic('abort')"}
            assert await read(ours, REQUESTS[0]) == wanted[0]

    run(main())


def test_an_error_that_cannot_be_shown_is_told_by_its_name_and_the_thread_goes_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, wanted: list[list[int]]
) -> None:
    def breaking(plan: Plan) -> Any:
        raise Unspeakable

    async def main() -> None:
        async with AsyncEngine(engine) as ours:
            with monkeypatch.context() as patch:
                patch.setattr(engine.runner, "run", breaking)
                results = await asyncio.gather(*map(ours.generate, REQUESTS), return_exceptions=True)
            assert [(type(one), str(one)) for one in results] == [(RuntimeError, "Unspeakable")] * 4
            assert await read(ours, REQUESTS[0]) == wanted[0]

    run(main())


class Unreadable:
    """An answer that has ended, and nobody can tell how."""

    finish_reason = "error"

    @property
    def error(self) -> str | None:
        raise Panic("error")


class AtOnce:
    """An engine whose answers have ended when they are asked for."""

    def add(self, request: Any, /) -> Any:
        return request

    def step(self) -> None:
        pass

    def abort(self, answer: Any, /) -> None:
        pass


class Asking(EngineThread[Any, Any]):
    async def ask(self, request: Any) -> Any:
        return await self._complete(request)


def test_who_waits_for_an_answer_whose_end_cannot_be_read_is_told() -> None:
    async def main() -> None:
        async with Asking(AtOnce(), family=lambda answer: (answer,)) as ours:
            with pytest.raises(RuntimeError, match=r"Panic.'error'."):
                await ours.ask(Unreadable())

    run(main())


def test_an_answer_that_is_complete_arrives_though_another_cannot_be_read(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, wanted: list[list[int]]
) -> None:
    """In the very step that completes the one, the other fails, and after it."""
    both_ask, most_at_once = Event(), 0
    compute, read_news = engine.runner.run, Follower.news

    def waiting(plan: Plan) -> Any:
        assert both_ask.wait(30)
        return compute(plan)

    def breaking(follower: Follower, generation: Generation) -> list[Progress]:
        nonlocal most_at_once
        most_at_once = max(most_at_once, len(engine.scheduler.running))
        if len(engine.scheduler.running) < most_at_once:
            raise Panic("news")
        return read_news(follower, generation)

    async def follow(ours: AsyncEngine) -> None:
        async for _ in ours.follow(ENDLESS):
            pass

    monkeypatch.setattr(engine.runner, "run", waiting)
    monkeypatch.setattr(Follower, "news", breaking)

    async def main() -> None:
        async with AsyncEngine(engine) as ours:
            tasks = [asyncio.create_task(ours.generate(REQUESTS[0])), asyncio.create_task(follow(ours))]
            await asyncio.sleep(0)
            both_ask.set()
            answer, failure = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(answer, Generation)
            assert answer.tokens == wanted[0]
            assert type(failure) is RuntimeError
            assert str(failure) == "Panic('news')"
            assert await read(ours, REQUESTS[1]) == wanted[1]

    run(main())
    assert engine.scheduler.num_blocks_in_use == 0


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


def test_two_loops_that_ask_first_together_share_one_thread(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, wanted: list[list[int]]
) -> None:
    both_make_one = Barrier(2)
    made: list[Thread] = []

    class Late(Thread):
        """Until the other loop makes a thread as well, or has had half a second to."""

        def __init__(self, **kwargs: Any) -> None:
            with suppress(BrokenBarrierError):
                both_make_one.wait(0.5)
            super().__init__(**kwargs)
            made.append(self)

    monkeypatch.setattr(engine_thread, "Thread", Late)
    ours = AsyncEngine(engine)
    with ThreadPoolExecutor(2) as loops:
        answers = [loops.submit(run, read(ours, request)) for request in REQUESTS[:2]]
        assert [answer.result() for answer in answers] == wanted[:2]
    run(ours.close())
    assert len(made) == 1


def test_a_request_that_comes_while_another_loop_closes_is_told(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(1) as other_loop:
        closing: list[Future[None]] = []

        class Late(SimpleQueue[Any]):
            """The request arrives in it when the other loop has closed the engine, or has had half a second to."""

            def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
                if not closing:
                    closing.append(other_loop.submit(run, ours.close()))
                    wait(closing, 0.5)
                super().put(item, block, timeout)

        monkeypatch.setattr(engine_thread, "SimpleQueue", Late)
        ours = AsyncEngine(engine)
        with pytest.raises(RequestError, match="closed before the answer was complete"):
            run(read(ours, ENDLESS))
        closing[0].result()
    assert engine.scheduler.num_blocks_in_use == 0
