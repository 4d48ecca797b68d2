"""Answers for coroutines: the same texts, for each caller alone, and an event loop that goes on meanwhile."""

import asyncio
import gc
import random
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from subprocess import PIPE
from typing import Any, TypeVar

import pytest
import torch

from malmoi.core.errors import RequestError, TemplateError
from malmoi.engine import SamplingParams
from malmoi.llm import LLM, AsyncLLM, AsyncTextStream, Completion
from malmoi.llm.answer import Reader
from malmoi.testing.models import ScriptedModel, tiny_llama, tiny_llm
from malmoi.testing.tokenizer import ByteTokenizer

HELLO = [{"role": "user", "content": "안녕?"}]
ENDLESS = SamplingParams(seed=1, ignore_eos=True)
PROMPTS: list[Any] = ["안녕", HELLO, "Hi", "말모이는"]
PARAMS = [
    SamplingParams(seed=1, max_tokens=12),
    SamplingParams(seed=2, max_tokens=9, logprobs=2, prompt_logprobs=True),
    SamplingParams(temperature=0, max_tokens=7, script_lock="hangul"),
    SamplingParams(seed=4, max_tokens=20, stop=("a", "b", "가")),
    SamplingParams(seed=5, max_tokens=6, n=3, stop=("\n", "e")),
    SamplingParams(seed=6, regex="(네|아니요)[.!]"),
    SamplingParams(seed=7, max_tokens=8, n=2, logprobs=True),
    SamplingParams(seed=8, max_tokens=1),
]
QUESTIONS = [(prompt, params) for prompt in PROMPTS for params in PARAMS]

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, 120))


def gist(completion: Completion) -> Any:
    """All that is the same in any batch, to the last bit: without what is computed of floating-point numbers."""
    logprobs = [
        [one.token for one in part or ()] for part in (completion.logprobs, completion.prompt_logprobs)
    ]
    siblings = [gist(sibling) for sibling in completion.siblings]
    return completion.text, completion.tokens, completion.finish_reason, completion.usage, logprobs, siblings


def ask(llm: LLM | AsyncLLM, prompt: Any, params: SamplingParams) -> Any:
    return llm.generate(prompt, params) if isinstance(prompt, str) else llm.chat(prompt, params)


async def read(stream: AsyncTextStream) -> Completion:
    pieces = [piece async for piece in stream]
    assert all(pieces)
    assert "".join(pieces) == stream.completion.text
    return stream.completion


async def until_idle(llm: LLM) -> None:
    while llm.engine.scheduler.running or llm.engine.scheduler.waiting:
        await asyncio.sleep(0.001)


def num_owned(llm: LLM) -> int:
    return llm.engine.scheduler.num_blocks_in_use


@pytest.fixture
def llm() -> LLM:
    return tiny_llm()


@pytest.fixture(scope="module")
def wanted() -> list[Completion]:
    llm = tiny_llm()
    return [ask(llm, prompt, params) for prompt, params in QUESTIONS]


def test_answers_are_those_of_the_other_face_one_by_one(llm: LLM, wanted: list[Completion]) -> None:
    async def main() -> None:
        async with AsyncLLM(llm) as ours:
            for question, completion in zip(QUESTIONS[:8], wanted, strict=False):
                assert await ask(ours, *question) == completion

    run(main())


def test_and_when_32_tasks_ask_at_once(llm: LLM, wanted: list[Completion]) -> None:
    async def main() -> None:
        async with AsyncLLM(llm) as ours:
            answers = await asyncio.gather(*(ask(ours, *question) for question in QUESTIONS))
        assert list(map(gist, answers)) == list(map(gist, wanted))

    assert len(QUESTIONS) == 32
    run(main())
    assert num_owned(llm) == 0


def test_streams_have_the_same_pieces(llm: LLM, wanted: list[Completion]) -> None:
    single = [number for number, (_, params) in enumerate(QUESTIONS) if params.n == 1]

    async def main() -> None:
        async with AsyncLLM(llm) as ours:
            streams = [ours.stream(*QUESTIONS[number]) for number in single]
            with pytest.raises(RequestError, match="not come to its end"):
                streams[0].completion  # noqa: B018
            answers = await asyncio.gather(*map(read, streams))
            assert list(map(gist, answers)) == [gist(wanted[number]) for number in single]
            with pytest.raises(StopAsyncIteration):
                await anext(streams[0])

    run(main())


def test_a_request_that_is_refused_or_fails_says_so_to_whoever_asked(
    llm: LLM, wanted: list[Completion]
) -> None:
    poison = llm.tokenizer.encode("\x00")

    def spoil(module: Any, inputs: Any, out: torch.Tensor) -> torch.Tensor:
        return out.masked_fill((inputs[0] == poison[0])[..., None], torch.nan)

    async def main() -> None:
        async with AsyncLLM(llm) as ours:
            good = [asyncio.create_task(ask(ours, *question)) for question in QUESTIONS[:8]]
            for wrong, error, message in (
                (ours.generate("긴 글 " * 50), RequestError, "has room for 128"),
                (ours.generate(["가", "나"]), RequestError, "each of several texts to its own call"),  # type: ignore[arg-type]
                (ours.chat("가"), RequestError, "chat takes a list of messages"),
                (ours.chat([{"role": "user", "content": 3}]), TemplateError, "is of the type int"),
                (ours.generate("가", images=["그림.png"]), RequestError, "takes no images"),
                (ours.generate("가", SamplingParams(regex="(")), RequestError, "cannot be followed"),
                (ours.generate("\x00가"), RequestError, "not finite"),
                (read(ours.stream("\x00가")), RequestError, "not finite"),
                (ours.generate("\x00", SamplingParams(n=2)), RequestError, "not finite"),
            ):
                with pytest.raises(error, match=message):
                    await wrong
            with pytest.raises(RequestError, match="n=2, and a stream gives one answer"):
                ours.stream("가", SamplingParams(n=2))
            assert list(map(gist, await asyncio.gather(*good))) == list(map(gist, wanted[:8]))

    with llm.model.embedding.register_forward_hook(spoil):
        run(main())
    assert num_owned(llm) == 0


@pytest.mark.parametrize("is_stream", [True, False])
def test_whoever_stops_waiting_frees_its_memory_before_the_next_step(
    monkeypatch: pytest.MonkeyPatch, is_stream: bool
) -> None:
    llm = tiny_llm(tiny_llama(max_positions=8192))
    num_steps = 0
    whole = llm.engine.step

    def counted() -> None:
        nonlocal num_steps
        num_steps += 1
        whole()

    monkeypatch.setattr(llm.engine, "step", counted)

    async def main() -> None:
        async with AsyncLLM(llm) as ours:
            task = asyncio.create_task(
                read(ours.stream("안녕", ENDLESS))
                if is_stream
                else ours.generate("안녕", replace(ENDLESS, n=3))
            )
            while num_steps < 5:
                await asyncio.sleep(0.001)
            assert num_owned(llm)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            begun = num_steps
            await until_idle(llm)
            assert num_owned(llm) == 0
            assert num_steps - begun <= 2  # one that was running, and the one that has just begun

    run(main())


@pytest.mark.parametrize("give_up", ["closed", "dropped"])
def test_closing_or_dropping_a_stream_ends_its_request(give_up: str) -> None:
    llm = tiny_llm(tiny_llama(max_positions=8192))

    async def main() -> None:
        async with AsyncLLM(llm) as ours:
            stream = ours.stream("안녕", ENDLESS)
            await anext(stream)
            if give_up == "closed":
                await stream.aclose()
            del stream
            gc.collect()
            await until_idle(llm)
            assert num_owned(llm) == 0

    run(main())


def test_a_stop_string_ends_the_generation_of_its_own_text_only() -> None:
    tokenizer = ByteTokenizer()
    scripted = ScriptedModel([*tokenizer.encode("하나\n\n둘 셋 넷"), 0], num_prompt=1)
    stopped = SamplingParams(temperature=0, stop="\n\n")

    async def main() -> None:
        async with AsyncLLM(tiny_llm(scripted)) as ours:
            for completion in (await ours.generate("?", stopped), await read(ours.stream("?", stopped))):
                assert completion.tokens == tokenizer.encode("하나\n\n")
                assert (completion.text, completion.finish_reason) == ("하나", "stop")
        llm = tiny_llm(tiny_llama(max_positions=512))
        params = SamplingParams(seed=3, n=4, max_tokens=60, ignore_eos=True)
        params = replace(params, stop=llm.generate("안녕", params).text[20])
        answers = llm.generate("안녕", params)
        lengths = {len(one.tokens) for one in (answers, *answers.siblings)}
        assert len(lengths) > 1
        async with AsyncLLM(llm) as ours:
            assert await ours.generate("안녕", params) == answers
            await until_idle(llm)

    run(main())


@pytest.mark.parametrize("seed", range(3))
def test_tasks_that_are_cancelled_at_any_moment_leave_no_block_behind(llm: LLM, seed: int) -> None:
    dice = random.Random(seed)

    async def give_up_after_pieces(ours: AsyncLLM, num_pieces: int) -> None:
        async with aclosing(ours.stream("안녕", ENDLESS)) as stream:
            async for _ in stream:
                if not (num_pieces := num_pieces - 1):
                    return

    async def main() -> None:
        async with AsyncLLM(llm) as ours:
            tasks: list[asyncio.Task[Any]] = []
            for number in range(40):
                prompt, params = QUESTIONS[dice.randrange(32)]
                tasks.append(
                    asyncio.create_task(
                        give_up_after_pieces(ours, dice.randint(1, 20))
                        if number % 4 == 0
                        else ask(ours, prompt, params)
                    )
                )
                await asyncio.sleep(dice.choice([0, 0, 0.002]))
                if dice.random() < 0.6:
                    dice.choice(tasks).cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            errors = [result for result in results if isinstance(result, BaseException)]
            assert all(isinstance(error, asyncio.CancelledError) for error in errors)
            await until_idle(llm)
            assert num_owned(llm) == 0

    run(main())


def test_nothing_is_built_or_summed_up_in_the_thread_of_the_loop(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []

    def noted(whole: Any) -> Any:
        def inner(*args: Any, **options: Any) -> Any:
            threads.append(threading.current_thread())
            return whole(*args, **options)

        return inner

    monkeypatch.setattr(llm.builder, "build", noted(llm.builder.build))
    monkeypatch.setattr(Reader, "completion", noted(Reader.completion))

    async def main() -> None:
        async with AsyncLLM(llm) as ours:
            await ours.generate("안녕", SamplingParams(max_tokens=2))
            await read(ours.stream(HELLO, SamplingParams(max_tokens=2)))

    run(main())
    assert len(threads) == 4
    assert threading.main_thread() not in threads


def test_a_closed_one_ends_what_is_going_on_and_takes_nothing_more() -> None:
    llm = tiny_llm(tiny_llama(max_positions=8192))

    async def main() -> None:
        ours = AsyncLLM(llm)
        task = asyncio.create_task(ours.generate("안녕", ENDLESS))
        while not llm.engine.scheduler.running:
            await asyncio.sleep(0.001)
        await ours.close()
        with pytest.raises(RequestError, match="closed before the answer was complete"):
            await task
        with pytest.raises(RequestError, match="was closed. Make another"):
            await ours.generate("안녕")

    run(main())
    assert num_owned(llm) == 0


class Text(str):
    """Of which it can be told that it is gone."""


async def until_no_more_come(items: Sequence[object]) -> None:
    """Until none has come for 0.1 s."""
    num = -1
    while num != len(items):
        num = len(items)
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("is_fetching", [True, False])
@pytest.mark.parametrize("who_leaves", ["who waits", "all"])
def test_who_leaves_while_all_threads_are_busy_takes_the_prompt_along(
    llm: LLM, monkeypatch: pytest.MonkeyPatch, is_fetching: bool, who_leaves: str
) -> None:
    may_go_on = threading.Event()
    begun: list[None] = []

    def busy(*asked: Any) -> Any:
        begun.append(None)
        assert may_go_on.wait(60)
        raise RequestError("enough")

    monkeypatch.setattr(llm.builder, "fetches", lambda *_: is_fetching)
    monkeypatch.setattr(llm.builder, "build", busy)

    async def leave(tasks: list[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)  # `gather` would keep the tasks for a moment
        assert all(task.cancelled() for task in tasks)

    async def main() -> None:
        async with AsyncLLM(llm) as ours:
            more_than_threads = 40
            first = [asyncio.create_task(ours.generate("말")) for _ in range(more_than_threads)]
            await until_no_more_come(begun)
            num_threads = len(begun)
            assert num_threads < more_than_threads
            if who_leaves == "all":
                await leave(first)
            prompts = [Text("말" * 10) for _ in range(200)]
            refs = [weakref.ref(prompt) for prompt in prompts]
            late = [asyncio.create_task(ours.generate(prompt)) for prompt in prompts]
            del prompts
            await until_no_more_come(begun)
            await leave(late)
            late.clear()
            gc.collect()
            assert not any(ref() is not None for ref in refs)
            assert len(begun) == num_threads, "still busy"
            may_go_on.set()
            results = await asyncio.gather(*first, return_exceptions=True)
            wanted = asyncio.CancelledError if who_leaves == "all" else RequestError
            assert {type(result) for result in results} == {wanted}

    try:
        run(main())
    finally:
        may_go_on.set()


def test_two_loops_that_both_have_more_to_build_than_there_are_threads_are_answered(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = llm.builder.build

    def slow(*asked: Any) -> Any:
        time.sleep(0.002)
        return whole(*asked)

    monkeypatch.setattr(llm.builder, "build", slow)
    ours = AsyncLLM(llm)

    async def ask_many() -> list[str]:
        params = SamplingParams(temperature=0, max_tokens=2)
        answers = await asyncio.gather(*(ours.generate("말", params) for _ in range(60)))
        return [answer.text for answer in answers]

    with ThreadPoolExecutor(2) as loops:
        texts = [
            text for answers in [loops.submit(run, ask_many()) for _ in range(2)] for text in answers.result()
        ]
    run(ours.close())
    assert len(texts) == 120
    assert len(set(texts)) == 1


@pytest.mark.parametrize("is_fetching", [True, False])
def test_a_closed_one_keeps_no_threads_and_takes_nothing_more(
    llm: LLM, monkeypatch: pytest.MonkeyPatch, is_fetching: bool
) -> None:
    monkeypatch.setattr(llm.builder, "fetches", lambda *_: is_fetching)

    async def main() -> None:
        before = set(threading.enumerate())
        ours = AsyncLLM(llm)

        def threads() -> list[str]:
            names = [thread.name for thread in threading.enumerate() if thread not in before]
            return [name for name in names if name.startswith(("malmoi", "asyncio"))]

        await asyncio.gather(*(ours.generate("말", SamplingParams(max_tokens=1)) for _ in range(8)))
        assert any(
            name.startswith("malmoi-fetching" if is_fetching else "malmoi-building") for name in threads()
        )
        await ours.close()
        while any(name.startswith("malmoi") for name in threads()):
            await asyncio.sleep(0.001)
        with pytest.raises(RequestError, match="was closed. Make another"):
            await ours.generate("말")

    run(main())


def test_who_waits_for_a_thread_of_one_that_is_closed_is_told(
    llm: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on = threading.Event()
    begun: list[None] = []
    whole = llm.builder.build

    def busy(*asked: Any) -> Any:
        begun.append(None)
        assert may_go_on.wait(60)
        return whole(*asked)

    monkeypatch.setattr(llm.builder, "build", busy)

    async def main() -> None:
        ours = AsyncLLM(llm)
        tasks = [asyncio.create_task(ours.generate("말")) for _ in range(60)]
        await until_no_more_come(begun)
        num_begun = len(begun)
        await ours.close()
        may_go_on.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} == {RequestError}
        assert len(begun) == num_begun < 60

    try:
        run(main())
    finally:
        may_go_on.set()


BYSTANDER = """
import select, sys, time
print("ready", flush=True)
longest = 0.0
while not select.select([sys.stdin], [], [], 0)[0]:
    begin = time.perf_counter()
    time.sleep(0.001)
    longest = max(longest, time.perf_counter() - begin - 0.001)
print(longest)
"""


async def longest_lag(work: Coroutine[Any, Any, None]) -> float:
    """The most by which a sleep of 1 ms took longer while `work` was done than in another process, in seconds."""
    with subprocess.Popen([sys.executable, "-c", BYSTANDER], stdin=PIPE, stdout=PIPE, text=True) as bystander:
        assert bystander.stdout is not None
        assert bystander.stdout.readline() == "ready\n"
        task = asyncio.create_task(work)
        longest = 0.0
        while not task.done():
            begin = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - begin - 0.001)
        by_the_machine = float(bystander.communicate("enough\n")[0])
    await task
    return longest - by_the_machine


@pytest.mark.slow
def test_the_loop_never_waits_50_ms_while_a_model_of_100_million_parameters_writes_and_long_texts_come_in() -> (
    None
):
    model = tiny_llama(
        hidden_size=768, intermediate_size=3072, num_layers=11, num_heads=12, num_kv_heads=12, head_dim=64,
        max_positions=1024,
    )  # fmt: skip
    llm = tiny_llm(model)
    params = SamplingParams(max_tokens=6, logprobs=5, ignore_eos=True)
    too_long = "말모이는 첫 우리말 사전의 이름이다. " * 1500
    talk = [{"role": "user", "content": too_long}]
    choice = SamplingParams(choice=tuple(f"답 {number}" for number in range(2000)), max_tokens=4)

    async def work(ours: AsyncLLM) -> None:
        good = [ours.generate("첫 우리말 사전 " * 20, params) for _ in range(4)]
        *_, one, other = await asyncio.gather(
            *good,
            ours.generate("가", choice),
            ours.generate(too_long),
            ours.chat(talk),
            return_exceptions=True,
        )
        assert isinstance(one, RequestError)
        assert isinstance(other, RequestError)

    async def main() -> float:
        async with AsyncLLM(llm) as ours:
            lags = [await longest_lag(work(ours))]
            while lags[-1] >= 0.05 and len(lags) < 5:  # the machine may hold up one of the two processes only
                lags.append(await longest_lag(work(ours)))
            return lags[-1]

    assert run(main()) < 0.05
