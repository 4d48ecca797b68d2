"""Streams: who goes away frees what was kept, who waits hears something, and what breaks says so."""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import torch
from tests.server.conftest import HELLO, Serve, Served, wait_until

from malmoi.llm import AsyncLLM
from malmoi.server import sse
from malmoi.server.errors import ServerError
from malmoi.server.wire import NamedEvents
from malmoi.testing.models import tiny_llama, tiny_llm

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
ENDLESS: dict[str, Any] = {"ignore_eos": True, "seed": 1}
ASKED: dict[str, dict[str, Any]] = {CHAT: {"messages": HELLO}, TEXT: {"prompt": "말"}}


class Steps:
    """The steps of an engine. The third waits until it may go on, and with it all that come after."""

    def __init__(self, whole: Callable[[], None]) -> None:
        self._whole = whole
        self.num_begun = 0
        self.may_go_on = threading.Event()

    def __call__(self) -> None:
        self.num_begun += 1
        if self.num_begun == 3:
            self.may_go_on.wait()
        self._whole()


@pytest.fixture
def steps(endless: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    steps = Steps(endless.llm.engine.step)
    monkeypatch.setattr(endless.llm.engine, "step", steps)
    yield steps
    steps.may_go_on.set()  # a server stops after the step that is running


def has_heard(served: Served) -> bool:
    """Whether the loop knows that somebody has gone away."""
    return 'ending="cancelled"} 1' in served.http.get("/metrics").text


@pytest.mark.parametrize("path", [CHAT, TEXT])
@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("n", [1, 3])
def test_who_goes_away_frees_its_blocks_within_a_step(
    endless: Served, steps: Steps, caplog: pytest.LogCaptureFixture, path: str, is_stream: bool, n: int
) -> None:
    connection = endless.request(path, **ASKED[path], **ENDLESS, stream=is_stream, n=n)
    wait_until(lambda: steps.num_begun == 3)
    assert endless.num_blocks_in_use
    connection.close()
    wait_until(lambda: has_heard(endless))
    steps.may_go_on.set()
    endless.until_idle()
    wait_until(lambda: not endless.num_blocks_in_use)
    assert steps.num_begun == 3
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert endless.post(path, **ASKED[path], max_tokens=2).status_code == 200


@pytest.mark.parametrize("behind", [b"\r\n", b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_and_so_if_more_has_come_behind_its_request(endless: Served, steps: Steps, behind: bytes) -> None:
    connection = endless.request(CHAT, messages=HELLO, **ENDLESS)
    connection.sendall(behind)
    wait_until(lambda: steps.num_begun == 3)
    connection.close()
    wait_until(lambda: has_heard(endless))
    steps.may_go_on.set()
    endless.until_idle()
    assert steps.num_begun == 3


def test_of_what_comes_behind_a_request_little_is_kept(endless: Served, steps: Steps) -> None:
    connection = endless.request(CHAT, messages=HELLO, **ENDLESS, max_tokens=5)
    wait_until(lambda: steps.num_begun == 3)
    connection.settimeout(2)
    num_sent = 0
    with connection:
        with suppress(TimeoutError):  # what nobody reads fills the system's buffers, some MB, and then waits
            while num_sent < 2**26:
                num_sent += connection.send(b" " * 2**16)
        steps.may_go_on.set()
        with connection.makefile("rb") as file:
            assert b"200" in file.readline()
    assert num_sent < 2**25


def test_who_goes_away_while_its_stream_is_full_frees_its_blocks_too(endless: Served) -> None:
    connection = endless.request(
        CHAT, messages=HELLO, **ENDLESS, stream=True, logprobs=True, top_logprobs=200
    )
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    wait_until(lambda: endless.num_blocks_in_use)
    time.sleep(0.5)  # nobody reads: what is written waits
    connection.close()
    endless.until_idle()
    assert not endless.num_blocks_in_use


def test_a_long_prompt_has_a_status_at_once_and_then_signs_of_life(
    endless: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_SECONDS", 0.05)
    may_go_on = threading.Event()
    whole = endless.llm.engine.step

    def step() -> None:
        may_go_on.wait(30)
        whole()

    monkeypatch.setattr(endless.llm.engine, "step", step)
    try:
        for path, asked in ASKED.items():
            may_go_on.clear()
            body = {**asked, "max_tokens": 2, "stream": True}
            with endless.http.stream("POST", path, json=body) as response:
                assert response.status_code == 200
                lines = response.iter_lines()
                comments = 0
                while comments < 4:
                    line = next(lines)
                    assert line in ("", ": ") or '"role"' in line  # a chat opens with who speaks
                    comments += line == ": "
                may_go_on.set()
                assert list(lines)[-2] == "data: [DONE]"
    finally:
        may_go_on.set()


def test_what_is_wrong_with_a_stream_has_a_status_even_while_the_engine_is_busy(endless: Served) -> None:
    for path, body in (
        (CHAT, {"messages": [{"role": "user", "content": "가" * 4000}]}),
        (TEXT, {"prompt": "말", "logit_bias": {"100000": 1}}),
        (CHAT, {"messages": []}),
        (TEXT, {"prompt": "말", "temperature": -1}),
    ):
        response = endless.post(path, **body, stream=True)
        assert response.status_code == 400, response.text
        assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("is_known", [True, False])
def test_what_goes_wrong_in_the_middle_of_a_stream_is_an_event(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_known: bool
) -> None:
    llm = tiny_llm(tiny_llama(max_positions=512))
    served = serve(llm)
    num_steps = 0
    whole = llm.engine.step

    def step() -> None:
        nonlocal num_steps
        num_steps += 1
        if num_steps == 4 and not is_known:
            raise RuntimeError("/home/somebody/secret broke")
        whole()

    def spoil(module: Any, inputs: Any, out: torch.Tensor) -> torch.Tensor:
        return out.fill_(torch.nan) if num_steps == 4 and is_known else out

    monkeypatch.setattr(llm.engine, "step", step)
    with llm.model.embedding.register_forward_hook(spoil):
        chunks = served.chunks(CHAT, messages=HELLO, **ENDLESS)
    assert len(chunks) > 1
    error = chunks[-1]["error"]
    assert ("not finite" in error["message"]) == is_known
    assert "secret" not in error["message"]
    assert error["type"] == ("invalid_request_error" if is_known else "server_error")
    assert served.post(CHAT, messages=HELLO, max_tokens=2).status_code == 200
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert bool(logged) != is_known


def test_the_openai_client_raises_such_an_event(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    import openai

    llm = tiny_llm(tiny_llama(max_positions=512))
    served = serve(llm)

    async def broken(*_: Any, **__: Any) -> Any:
        yield []
        yield []
        raise RuntimeError("broken")

    monkeypatch.setattr(AsyncLLM, "deltas", broken)
    with (
        pytest.raises(openai.APIError, match="something is wrong in the server"),
        served.openai.chat.completions.create(model="default", messages=HELLO, stream=True) as stream,  # type: ignore[call-overload]
    ):
        list(stream)


def test_answers_of_many_at_once_are_each_ones_own(endless: Served) -> None:
    def ask(seed: int) -> str:
        body = {"messages": HELLO, "seed": seed, "max_tokens": 20}
        chunks = endless.chunks(CHAT, **body) if seed % 2 else [endless.post(CHAT, **body).json()]
        return "".join(
            one.get("delta", one.get("message")).get("content") or ""
            for chunk in chunks
            for one in chunk["choices"]
        )

    alone = [ask(seed) for seed in range(8)]
    together = [""] * 8
    threads = [
        threading.Thread(target=lambda seed=seed: together.__setitem__(seed, ask(seed))) for seed in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
    assert len(set(alone)) == 8


def test_a_response_says_that_it_is_not_to_be_kept(endless: Served) -> None:
    with endless.http.stream("POST", CHAT, json={"messages": HELLO, "max_tokens": 1, "stream": True}) as told:
        assert told.headers["content-type"].startswith("text/event-stream")
        assert told.headers["cache-control"] == "no-cache"
        first = next(line for line in told.iter_lines() if line.startswith("data:"))
        assert json.loads(first.removeprefix("data:"))["choices"][0]["delta"]["role"] == "assistant"
    assert isinstance(told, httpx.Response)


def test_what_breaks_behind_the_first_event_has_a_name_where_all_have_one() -> None:
    wire = NamedEvents()
    name, data, *_ = wire.write(wire.failed(ServerError("it broke. Try again."))).split("\n")
    assert name == "event: error"
    said = json.loads(data.removeprefix("data: "))
    assert (said["type"], said["error"]["message"]) == ("error", "it broke. Try again.")
