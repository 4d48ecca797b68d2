"""Models that share memory: they take turns, none is torn away from whom it answers, and what leaves is gone."""

import asyncio
import random
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.server.conftest import HELLO, Serve, Served, wait_until
from tests.server.test_encoders import encoder

from malmoi.core.errors import CheckpointError
from malmoi.engine import SamplingParams
from malmoi.llm import LLM
from malmoi.server.catalogue.holds import HOLDS, Holds
from malmoi.server.catalogue.loaded import bytes_of
from malmoi.server.catalogue.local import ALWAYS, LocalModel
from malmoi.server.catalogue.room import Room
from malmoi.server.errors import ServerError
from malmoi.testing.models import tiny_llama, tiny_llm

CHAT = "/v1/chat/completions"
SIZE = 1000


@contextmanager
def a_request() -> Iterator[None]:
    with Holds() as holds:
        before = HOLDS.set(holds)
        try:
            yield
        finally:
            HOLDS.reset(before)


def models(
    *names: str, room: Room, load: Callable[[], Any] = tiny_llm, size: int = SIZE, **options: Any
) -> list[LocalModel]:
    """Models that say they take `size` bytes, whatever they take."""
    found = [
        LocalModel(name, None, load=lambda _: load(), estimate=lambda _: size, **options) for name in names
    ]
    for model in found:
        model.room = room
    return found


@pytest.fixture(autouse=True)
def of_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("malmoi.server.catalogue.local.bytes_of", lambda loaded: SIZE)


@asynccontextmanager
async def closing(*models: LocalModel) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        for model in models:
            await model.close()


def test_in_turns_each_takes_the_others_place_and_that_one_is_gone() -> None:
    async def run() -> None:
        one, other = models("one", "other", room=Room(SIZE))
        async with closing(one, other):
            for _ in range(3):
                for here, gone in ((one, other), (other, one)):
                    await here.serving()
                    assert (here.there is not None, gone.there) == (True, None)
                    assert here.room.num_bytes == SIZE
            assert (one.num_loads, other.num_loads) == (3, 3)

    asyncio.run(run())


def test_the_memory_of_one_that_left_is_free() -> None:
    async def run() -> None:
        one, other = models("one", "other", room=Room(SIZE))
        async with closing(one, other):
            with a_request():
                serving: Any = await one.serving()
                await serving.chat(HELLO, SamplingParams(max_tokens=3))
                parts = [
                    weakref.ref(part) for part in (serving.llm, serving.llm.model, serving.llm.tokenizer)
                ]
                del serving
            await other.serving()
            assert [part() for part in parts] == [None] * 3

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("names", "limit"), [("ab", 1), ("abc", 2), ("abcd", 1)])
def test_in_a_storm_nobody_fails_and_there_are_never_more_than_fit(seed: int, names: str, limit: int) -> None:
    draw = random.Random(seed)

    async def run() -> None:
        room = Room(limit * SIZE)
        all_ = models(*names, room=room)

        async def ask(model: LocalModel, before: float, during: float) -> None:
            await asyncio.sleep(before)
            with a_request():
                serving = await model.serving()
                for _ in range(3):
                    assert serving is await model.serving()
                    assert model.there is not None
                    assert sum(one.there is not None for one in all_) <= limit
                    assert room.num_bytes <= limit * SIZE
                    await asyncio.sleep(during)

        async with closing(*all_):
            work = [ask(draw.choice(all_), draw.random() / 20, draw.random() / 1000) for _ in range(60)]
            await asyncio.gather(*work)
            assert all(model.num_users == 0 for model in all_)

    asyncio.run(run())


def test_who_waits_for_a_place_does_not_starve_behind_others_that_come_and_come() -> None:
    async def run() -> None:
        one, other = models("one", "other", room=Room(SIZE))
        is_there = asyncio.Event()

        async def keep_asking() -> None:
            while not is_there.is_set():
                with a_request():
                    await one.serving()
                    await asyncio.sleep(0.005)

        async with closing(one, other):
            await one.serving()
            busy = [asyncio.create_task(keep_asking()) for _ in range(3)]
            await asyncio.sleep(0.02)
            with a_request():
                await asyncio.wait_for(other.serving(), 20)
                is_there.set()
            await asyncio.gather(*busy)

    asyncio.run(run())


def test_one_that_answers_is_waited_for_and_who_waits_too_long_is_told_so() -> None:
    async def run() -> None:
        one, other = models("one", "other", room=Room(SIZE, patience=0.05))
        async with closing(one, other):
            with a_request():
                await one.serving()
                with pytest.raises(ServerError) as caught:
                    await other.serving()
                assert (caught.value.status, caught.value.code) == (503, "no_room")
                assert int(caught.value.headers["Retry-After"]) > 0
                assert one.there is not None
                await one.serving()  # nobody waits for its place any more
            assert (await other.serving()) is not None

    asyncio.run(run())


def test_one_that_alone_has_no_room_is_refused_with_both_numbers() -> None:
    async def run() -> None:
        room = Room(2 * 2**20)
        [small] = models("small", room=room, size=2**20, keep=ALWAYS)
        [large] = models("large", room=room, size=3 * 2**20)
        [beside] = models("beside", room=room, size=2 * 2**20)
        async with closing(small, large, beside):
            with pytest.raises(ServerError, match=r"about 3.00 MiB, and the server has 2.00 MiB") as caught:
                await large.serving()
            assert (caught.value.status, caught.value.code) == (503, "model_too_large")
            await small.serving()
            small.num_bytes = 2**20
            with pytest.raises(ServerError, match="of which 1.00 MiB belong to models that always stay"):
                await beside.serving()
            assert small.there is not None

    asyncio.run(run())


def test_a_server_whose_first_model_has_no_room_says_so(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    [large] = models("large", room=Room(), size=2 * SIZE)
    served = serve({}, entries={"large": large}, room=Room(SIZE))
    wait_until(lambda: "cannot be loaded" in caplog.text)
    for response in (served.http.get("/ready"), served.post(CHAT, messages=HELLO)):
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "model_too_large"
    assert served.http.get("/health").status_code == 200


def test_the_one_that_was_used_longest_ago_leaves() -> None:
    async def run() -> None:
        one, two, three = models("one", "two", "three", room=Room(2 * SIZE))
        async with closing(one, two, three):
            for model in (one, two, one, three):
                await model.serving()
                await asyncio.sleep(0.002)
            assert [model.there is not None for model in (one, two, three)] == [True, False, True]

    asyncio.run(run())


class Panic(BaseException):
    """As pyo3's: what a panic in Rust becomes is no Exception."""


def test_a_load_that_fails_frees_its_place_and_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    errors: list[BaseException] = [CheckpointError("broken"), ValueError("worse"), Panic("worst")]

    def load() -> LLM:
        if errors:
            raise errors.pop()
        return tiny_llm()

    async def run() -> None:
        [one] = models("one", room=Room(SIZE), load=load)
        async with closing(one):
            for error in errors[::-1]:
                with pytest.raises(ServerError, match="cannot be loaded") as caught:
                    await one.serving()
                assert caught.value.code == "model_not_loaded"
                assert f"the model 'one' cannot be loaded: {error}" in caplog.text
                assert (one.room.num_bytes, one.num_users) == (0, 0)
            assert (await one.serving()) is not None
            assert one.room.num_bytes == SIZE

    asyncio.run(run())


def test_one_that_is_closed_while_it_is_loaded_keeps_no_place() -> None:
    begun, is_over = threading.Event(), threading.Event()

    def load() -> LLM:
        begun.set()
        assert is_over.wait(60)
        return tiny_llm()

    async def run() -> None:
        [one] = models("one", room=Room(SIZE), load=load)
        try:
            waiting = asyncio.create_task(one.serving())
            assert await asyncio.to_thread(begun.wait, 60)
            assert one.room.num_bytes == SIZE
            await one.close()
            assert one.room.num_bytes == 0
            with pytest.raises(asyncio.CancelledError):
                await waiting
        finally:
            is_over.set()

    asyncio.run(run())


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), Panic("CUDA error")])
def test_one_that_cannot_leave_in_order_leaves_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    async def run() -> None:
        one, other = models("one", "other", room=Room(SIZE))
        async with closing(one, other):
            serving = await one.serving()
            close = serving.close

            async def broken() -> None:
                await close()
                raise error

            monkeypatch.setattr(serving, "close", broken)
            await other.serving()
            assert (one.is_loaded, other.is_loaded, one.room.num_bytes) == (False, True, SIZE)

    asyncio.run(run())
    assert "the model 'one' has left, but not in order" in caplog.text
    assert f"{type(error).__name__}: CUDA error" in caplog.text


def test_and_its_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    is_gone: list[bool] = []

    async def run() -> None:
        [one] = models("one", room=Room(SIZE))
        async with closing(one):
            serving: Any = await one.serving()
            model, kind, close = weakref.ref(serving.llm.model), type(serving), type(serving).close

            async def broken(self: Any) -> None:
                await close(self)
                raise RuntimeError("CUDA error")

            def noted() -> None:
                for _ in range(1000):  # the thread that has loaded it may still let it go
                    if model() is not None:
                        time.sleep(0.001)
                is_gone.append(model() is None)

            monkeypatch.setattr(kind, "close", broken)
            monkeypatch.setattr("malmoi.server.catalogue.local.give_back_freed_memory", noted)
            del serving
            await one.room.vacate(one)

    asyncio.run(run())
    assert is_gone == [True]


def test_a_load_is_shared_and_outlives_who_asked_for_it_first() -> None:
    async def run() -> None:
        may_go_on = asyncio.Event()
        loop = asyncio.get_running_loop()

        def load() -> LLM:
            asyncio.run_coroutine_threadsafe(may_go_on.wait(), loop).result(20)
            return tiny_llm()

        [one] = models("one", room=Room(SIZE), load=load)
        async with closing(one):
            first, second = (asyncio.create_task(one.serving()) for _ in range(2))
            await asyncio.sleep(0.01)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            may_go_on.set()
            assert await second is await one.serving()
            assert one.num_loads == 1

    asyncio.run(run())


def test_who_goes_away_while_waiting_for_a_place_leaves_the_others_theirs() -> None:
    async def run() -> None:
        one, other = models("one", "other", room=Room(SIZE))
        async with closing(one, other):
            with a_request():
                await one.serving()
                waiting = asyncio.create_task(other.serving())
                await asyncio.sleep(0.01)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
            await asyncio.sleep(0.01)
            assert (one.there is not None, other.there) == (True, None)
            assert not one.is_leaving

    asyncio.run(run())


def test_who_comes_as_a_load_that_nobody_waited_for_ends_has_one_of_its_own() -> None:
    async def run() -> None:
        one, other = models("one", "other", room=Room(SIZE))
        has_answered = asyncio.Event()

        async def use_one() -> None:
            with a_request():
                await one.serving()
                await has_answered.wait()

        async with closing(one, other):
            using = asyncio.create_task(use_one())
            await until(lambda: one.is_loaded)
            given_up = asyncio.create_task(other.serving())
            await until(lambda: one.is_leaving)
            loading = other._loading
            assert loading is not None
            given_up.cancel()
            while not loading.done():
                await asyncio.sleep(0)
            asyncio.get_running_loop().call_later(0.01, has_answered.set)
            await (
                other.serving()
            )  # in the moment in which the loop has told nobody yet that the load has ended
            assert other.num_loads == 1
            await using

    asyncio.run(run())


# --- time ---


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.002)


def test_a_model_that_nobody_uses_leaves_and_not_before() -> None:
    async def run() -> None:
        [one] = models("one", room=Room(), keep=0.03)
        async with closing(one):
            with a_request():
                await one.serving()
                await asyncio.sleep(0.06)
                assert one.there is not None
            assert one.there is not None
            await until(lambda: one.there is None)
            assert one.is_ready, "it answers, if a little later"
            await one.serving()
            assert one.num_loads == 2

    asyncio.run(run())


def leaving_when_it_may(model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """What its leaving waits for from now on."""
    may_leave = asyncio.Event()
    leave = model.leave

    async def leave_then() -> None:
        async with asyncio.timeout(60):
            await may_leave.wait()
        await leave()

    monkeypatch.setattr(model, "leave", leave_then)
    return may_leave


def test_one_whose_place_somebody_wanted_and_gave_up_leaves_when_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        room = Room(2 * SIZE)
        one, other = models("one", "other", room=room)
        [large] = models("large", room=room, size=2 * SIZE)
        may_leave = leaving_when_it_may(one, monkeypatch)
        async with closing(one, other, large):
            await one.serving()
            await other.serving()
            asked = asyncio.create_task(large.serving())
            await until(lambda: other.is_leaving)
            other.keep(0)
            asked.cancel()
            await asyncio.sleep(0.01)  # longer than 0 s: its time is over
            may_leave.set()
            await until(lambda: not other.is_loaded)

    asyncio.run(run())


def test_nobody_leaves_for_the_place_that_one_leaves_of_its_own_accord(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        one, other, third = models("one", "other", "third", room=Room(2 * SIZE))
        may_leave = leaving_when_it_may(one, monkeypatch)
        async with closing(one, other, third):
            await other.serving()
            await one.serving()
            one.keep(0)
            await until(lambda: one.is_going)
            asked = asyncio.create_task(third.serving())
            await until(lambda: one.is_leaving)
            await asyncio.sleep(0.01)
            may_leave.set()
            await asked
            assert [model.is_loaded for model in (one, other, third)] == [False, True, True]

    asyncio.run(run())


def test_how_long_it_stays_can_be_said_and_taken_back() -> None:
    async def run() -> None:
        [one] = models("one", room=Room(), keep=None)
        async with closing(one):
            await one.serving()
            one.keep(0)
            await until(lambda: one.there is None)
            one.keep(-1)
            await one.serving()
            await asyncio.sleep(0.02)
            assert one.there is not None
            one.keep(0.01)
            one.keep(None)  # as configured: until its place is needed
            await asyncio.sleep(0.03)
            assert one.there is not None

    asyncio.run(run())


def test_what_always_stays_is_not_made_to_leave() -> None:
    async def run() -> None:
        room = Room(2 * SIZE)
        [staying] = models("staying", room=room, keep=ALWAYS)
        one, two = models("one", "two", room=room)
        async with closing(staying, one, two):
            for model in (staying, one, two, one):
                await model.serving()
            assert (staying.num_loads, one.num_loads, two.num_loads) == (1, 2, 1)

    asyncio.run(run())


# --- over HTTP ---


@pytest.fixture
def served(serve: Serve) -> Served:
    """Two models that write and one that reads, and room for one at a time."""
    make: dict[str, Callable[[], Any]] = {
        "one": lambda: tiny_llm(tiny_llama(seed=1)),
        "other": lambda: tiny_llm(tiny_llama(seed=2)),
        "reads": encoder,
    }
    entries = {
        name: LocalModel(name, name, load=lambda path: make[str(path)](), estimate=lambda _: SIZE)
        for name in make
    }
    return serve({name: load() for name, load in make.items()}, entries=entries, room=Room(SIZE))


def test_a_storm_of_requests_is_answered_as_each_model_answers_alone(served: Served) -> None:
    asked = {"messages": HELLO, "max_tokens": 4, "temperature": 0}
    greedy = SamplingParams(temperature=0, max_tokens=4)
    wanted = {name: served.models[name].chat(HELLO, greedy).text for name in ("one", "other")}
    draw = random.Random(0)
    names = [draw.choice(["one", "other", "reads"]) for _ in range(60)]

    def ask(name: str) -> None:
        if name == "reads":
            assert served.post("/v1/embeddings", model=name, input="말").status_code == 200
        elif draw.random() < 0.5:
            chunks = served.chunks(CHAT, model=name, **asked)
            text = "".join(
                chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"]
            )
            assert text == wanted[name]
        else:
            response = served.post(CHAT, model=name, **asked)
            assert response.status_code == 200, response.text
            assert response.json()["choices"][0]["message"]["content"] == wanted[name]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, names))


def test_models_tell_whether_they_are_there(served: Served) -> None:
    def there() -> dict[str, bool]:
        return {one["id"]: one["malmoi"]["loaded"] for one in served.http.get("/v1/models").json()["data"]}

    wait_until(lambda: there()["one"])
    served.post("/v1/embeddings", model="reads", input="말")
    assert there() == {"one": False, "other": False, "reads": True}
    described = served.http.get("/v1/models/reads").json()["malmoi"]
    assert (described["kind"], described["bytes"], described["context_length"]) == ("reads", SIZE, 64)
    [running] = served.http.get("/api/ps").json()["models"]
    assert (running["name"], running["size"]) == ("reads", SIZE)
    metrics = served.http.get("/metrics").text
    assert 'malmoi_model_loaded{model="reads"} 1' in metrics
    assert 'malmoi_model_loads_total{model="one"} 1' in metrics


def test_a_request_says_how_long_a_model_stays(served: Served) -> None:
    def running() -> list[Any]:
        return list(served.http.get("/api/ps").json()["models"])

    asked = {"model": "one", "messages": HELLO, "stream": False, "options": {"num_predict": 2}}
    assert served.post("/api/chat", **asked, keep_alive="1h").status_code == 200
    [one] = running()
    assert one["expires_at"] > datetime.now(UTC).isoformat()
    assert served.post("/api/chat", **asked, keep_alive=0).status_code == 200
    wait_until(lambda: running() == [])


def test_bytes_are_those_of_weights_and_cache() -> None:
    llm = tiny_llm()
    weights = sum(weight.nbytes for weight in llm.model.parameters())
    cache = sum(pool.k.nbytes + pool.v.nbytes for pool in llm.engine.runner.pools)  # type: ignore[union-attr]
    assert bytes_of(llm) == weights + cache > 0


def test_no_request_makes_one_leave_that_its_owner_keeps_always() -> None:
    async def run() -> None:
        [model] = models("a", room=Room(), keep=ALWAYS)
        async with closing(model):
            await model.serving()
            model.keep(0)
            await asyncio.sleep(0.05)
            assert model.is_loaded
            assert model.leaves_at is None

    asyncio.run(run())


@pytest.mark.parametrize("seconds", [1e9, 1e12, 1e300])
def test_longer_than_ten_years_is_always(serve: Serve, seconds: float) -> None:
    served = serve(tiny_llm())
    said = served.post("/api/generate", model="default", prompt="", keep_alive=seconds, stream=False)
    assert said.status_code == 200
    [one] = served.http.get("/api/ps").json()["models"]
    assert one["expires_at"] is None


def test_what_loads_but_cannot_be_served_is_an_error_that_frees_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(loaded: object) -> int:
        raise ValueError("of no size")

    monkeypatch.setattr("malmoi.server.catalogue.local.bytes_of", broken)

    async def run() -> None:
        room = Room(SIZE)
        [model] = models("a", room=room)
        async with closing(model):
            with pytest.raises(ServerError, match="cannot be loaded"):
                await model.serving()
        assert room.num_bytes == 0

    asyncio.run(run())


def test_that_one_could_not_leave_in_order_is_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(self: LocalModel) -> None:
        raise ValueError("stuck")

    async def run() -> None:
        [model] = models("a", room=Room(), keep=0.01)
        async with closing(model):
            with monkeypatch.context() as patch:
                patch.setattr(LocalModel, "leave", broken)
                await model.serving()
                await asyncio.sleep(0.1)

    asyncio.run(run())
    assert "the model 'a' has left, but not in order" in caplog.text


def test_who_waited_for_one_to_leave_waits_no_longer_than_the_rest_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends: list[float] = []
    enter = Room.enter

    async def noted(self: Room, tenant: Any, num_bytes: int, end: float) -> None:
        ends.append(end)
        await enter(self, tenant, num_bytes, end)

    monkeypatch.setattr(Room, "enter", noted)

    async def run() -> None:
        [model] = models("a", room=Room(SIZE, patience=60.0))
        async with closing(model):
            model.is_leaving = True
            task = asyncio.create_task(model.serving())
            await asyncio.sleep(0.2)
            has_left = asyncio.get_running_loop().time()
            model.is_leaving = False
            model.room.tell()
            await task
            assert ends[0] < has_left + 60.0

    asyncio.run(run())
