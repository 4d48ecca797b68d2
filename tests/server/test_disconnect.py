"""Who goes away before anything was answered ends what was begun for him, wherever it is."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from tests.server.conftest import HELLO, Serve, Served, wait_until

from malmoi.server.catalogue.upstream import Upstream, UpstreamSettings
from malmoi.server.disconnect import CancelOnDisconnect
from malmoi.testing.models import tiny_llm

CHAT = "/v1/chat/completions"
COUNT = "/v1/messages/count_tokens"


class Silent:
    """A machine that takes connections, reads what is asked, and says nothing."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"
        self.num_asked = self.num_waiting = 0
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> "Silent":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._socket.close()
        self._thread.join()

    def _listen(self) -> None:
        readers = []
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.num_asked, self.num_waiting = self.num_asked + 1, self.num_waiting + 1
                readers.append(threading.Thread(target=self._read, args=[connection]))
                readers[-1].start()
        for reader in readers:
            reader.join()

    def _read(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while connection.recv(2**16):
                pass
        self.num_waiting -= 1


@pytest.fixture
def silent() -> Iterator[Silent]:
    with Silent() as silent:
        yield silent


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": HELLO}),
        (CHAT, {"messages": HELLO, "stream": True}),
        ("/v1/completions", {"prompt": ["말", "모이"], "stream": True}),
        ("/v1/messages", {"messages": HELLO, "max_tokens": 5, "stream": True}),
        (COUNT, {"messages": HELLO}),
        ("/api/chat", {"messages": HELLO, "model": "far"}),
        ("/v1/embeddings", {"input": "말"}),
    ],
    ids=str,
)
def test_a_machine_that_says_nothing_is_not_waited_for(
    serve: Serve, silent: Silent, path: str, body: dict[str, Any]
) -> None:
    far = Upstream("far", UpstreamSettings(url=silent.url, model="m", timeout=600, retries=0))
    served = serve({}, entries={"far": far}, max_requests=1)
    for num_asked in (1, 2):
        with served.request(path, **{"model": "far", **body}):
            wait_until(lambda wanted=num_asked: silent.num_asked >= wanted)
        wait_until(lambda: not silent.num_waiting)
        wait_until(lambda: not is_refused(served))


@pytest.mark.parametrize("is_stream", [False, True])
def test_nor_is_a_model_that_is_loading(serve: Serve, is_stream: bool) -> None:
    models = {"slow": tiny_llm(), "default": tiny_llm()}
    may_load = threading.Event()

    def load(path: str | None) -> Any:
        if path == "slow":
            may_load.wait(60)
        return models[str(path)]

    served = serve(models, load=load, entries=None, max_requests=1)
    try:
        connection = served.request(CHAT, model="slow", messages=HELLO, max_tokens=2, stream=is_stream)
        wait_until(lambda: is_refused(served))
        connection.close()
        wait_until(lambda: not is_refused(served))
    finally:
        may_load.set()


def is_refused(served: Served) -> bool:
    """Whether the only place is taken."""
    return served.post(CHAT, model="nobody", messages=HELLO).status_code == 429


def test_whoever_asks_again_behind_an_answer_finds_the_place_free(serve: Serve) -> None:
    served = serve(tiny_llm(), max_requests=1)
    body = json.dumps({"messages": HELLO, "max_tokens": 1}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n".encode()
    last = request + b"Connection: close\r\n\r\n" + body
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall((request + b"\r\n" + body) * 4 + last)  # the next is there when an answer ends
        with connection.makefile("rb") as file:
            answers = file.read()
    assert answers.count(b"HTTP/1.1 200 OK") == 5


def test_what_was_begun_is_cancelled_once_and_has_ended_before_the_layer_does() -> None:
    events: list[str] = []

    async def works(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        try:
            events.append("begun")
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            events.append("ended")

    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"", "more_body": True},
        {"type": "http.request", "body": b"", "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        return messages.pop(0)

    asyncio.run(CancelOnDisconnect(works).admit({"type": "http"}, receive, nothing))
    assert events == ["begun", "ended"]


def test_an_answer_that_has_begun_is_told_and_not_cancelled() -> None:
    heard = []

    async def answers(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200})
        heard.append(await receive())
        await asyncio.sleep(0.01)
        heard.append(await receive())

    messages: list[dict[str, Any]] = [{"type": "http.request", "body": b""}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    asyncio.run(CancelOnDisconnect(answers).admit({"type": "http"}, receive, nothing))
    assert heard == [{"type": "http.disconnect"}] * 2


@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError])
def test_errors_pass_and_who_is_cancelled_ends_what_was_begun(kind: type[BaseException]) -> None:
    events: list[str] = []
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": b""}]

    async def works(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if kind is ValueError:
            raise ValueError("말")
        try:
            events.append("begun")
            await asyncio.sleep(60)
        finally:
            events.append("ended")

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.sleep(60)
        return messages.pop()

    async def ask() -> None:
        asking = asyncio.ensure_future(CancelOnDisconnect(works).admit({"type": "http"}, receive, nothing))
        while not (events or asking.done()):
            await asyncio.sleep(0)
        asking.cancel()
        await asking

    with pytest.raises(kind):
        asyncio.run(ask())
    assert events == ([] if kind is ValueError else ["begun", "ended"])


async def nothing(message: Any) -> None:
    """Nothing is sent."""
