"""Connections: slow ones, idle ones, too many, and those on which nobody reads. None keeps what others need."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest
from tests.server.conftest import HELLO, Serve, Served, wait_until
from uvicorn.server import ServerState

from malmoi.server.trust.connection import Config, Connection, ConnectionLimits
from malmoi.testing.models import tiny_llama, tiny_llm

CHAT = "/v1/chat/completions"
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX-Slow: "


def works(served: Served) -> None:
    """The next request is answered."""
    assert served.post(CHAT, messages=HELLO, max_tokens=1).status_code == 200


@contextmanager
def connected(served: Served) -> Iterator[socket.socket]:
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        yield connection


def rest_of(connection: socket.socket) -> bytes:
    """Everything that comes until the other side closes."""
    answer = b""
    try:
        while more := connection.recv(65536):
            answer += more
    except ConnectionError:
        pass
    return answer


@pytest.fixture(scope="module")
def hasty(start_server: Serve) -> Served:
    """A server that gives the head of a request half a second."""
    return start_server(tiny_llm(), limits=ConnectionLimits(head_seconds=0.5))


# --- slow heads ---


@pytest.mark.parametrize("sent", [b"", HEAD[:1], HEAD], ids=["nothing", "a byte", "half a head"])
def test_a_head_that_does_not_come_is_not_waited_for(hasty: Served, sent: bytes) -> None:
    begin = time.monotonic()
    with connected(hasty) as connection:
        connection.sendall(sent)
        answer = rest_of(connection)
    assert 0.4 < time.monotonic() - begin < 20
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert "did not come within 0.5 s" in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
    works(hasty)


def test_a_byte_now_and_then_does_not_help(hasty: Served) -> None:
    begin, answer = time.monotonic(), b""
    with connected(hasty) as connection:
        connection.sendall(HEAD)
        connection.settimeout(0.05)
        while not answer and time.monotonic() - begin < 20:
            try:
                connection.sendall(b"a")
                answer = connection.recv(4096)
            except TimeoutError:
                continue
            except ConnectionError:
                break
    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - begin > 0.4
    works(hasty)


def test_the_second_head_on_a_connection_is_not_waited_for_either(hasty: Served) -> None:
    with connected(hasty) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200")
        connection.sendall(HEAD)
        begin = time.monotonic()
        answer = rest_of(connection)
        assert b"HTTP/1.1 408" in answer
        assert time.monotonic() - begin > 0.4


def test_who_is_slow_between_its_requests_is_not_cut_off_in_one(hasty: Served) -> None:
    body = json.dumps({"messages": HELLO, "max_tokens": 1}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with connected(hasty) as connection:
        for _ in range(2):
            connection.sendall(head.encode())
            time.sleep(0.8)  # longer than a head may take: what is waited for is a body
            connection.sendall(body)
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")


def test_the_rest_of_a_body_that_was_refused_is_not_taken_for_ever(serve: Serve) -> None:
    served = serve(tiny_llm(), api_keys=("one",), limits=ConnectionLimits(head_seconds=0.5))
    begin = time.monotonic()
    with served.send(CHAT, b"{", Content_Length="1000000") as connection:
        connection.settimeout(0.05)
        answer, is_open = b"", True
        while is_open and time.monotonic() - begin < 20:
            try:
                connection.sendall(b" ")
                more = connection.recv(4096)
                answer, is_open = answer + more, more != b""
            except TimeoutError:
                continue
            except ConnectionError:
                is_open = False
    assert not is_open
    assert answer.startswith(b"HTTP/1.1 401")
    assert answer.count(b"HTTP/1.1") == 1


# --- what is no request ---


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS, to a server that speaks none
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000,
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 20_000,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /tokenize HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=lambda sent: ascii(sent[:40]),
)
def test_what_is_no_http_is_told_so_and_the_next_works(tiny: Served, sent: bytes) -> None:
    with connected(tiny) as connection:
        with suppress(ConnectionError):
            connection.sendall(sent)
        answer = rest_of(connection)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"
    works(tiny)


# --- too many ---


def test_one_connection_more_than_are_allowed_is_told_to_come_again(serve: Serve) -> None:
    served = serve(tiny_llm(), limits=ConnectionLimits(max_connections=3))
    with connected(served) as one, connected(served), connected(served):
        one.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert one.recv(12) == b"HTTP/1.1 200"
        with connected(served) as fourth:
            answer = rest_of(fourth)
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"\r\nRetry-After: 1\r\n" in answer
        assert b"3 connections are open" in answer
    wait_until(lambda: _answers(served))


def _answers(served: Served) -> bool:
    with httpx.Client(base_url=served.url) as client:
        try:
            return client.get("/health").status_code == 200
        except httpx.TransportError:
            return False


# --- nobody reads ---


def test_a_stream_that_nobody_reads_is_given_up_and_its_blocks_are_free(serve: Serve) -> None:
    served = serve(tiny_llm(tiny_llama(max_positions=8192)), limits=ConnectionLimits(max_stall=0.5))
    body = {"messages": HELLO, "ignore_eos": True, "stream": True, "logprobs": True, "top_logprobs": 200}
    with connected(served) as unread:
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        data = json.dumps(body).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        unread.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        wait_until(lambda: served.num_blocks_in_use)
        served.until_idle()  # long before the context is full, and while the connection is open on this side
        wait_until(lambda: not served.num_blocks_in_use)
    measured = served.http.get("/metrics").text
    assert 'malmoi_requests_total{model="default",ending="cancelled"} 1' in measured
    works(served)


def test_an_answer_that_is_read_slowly_but_read_comes_whole(serve: Serve) -> None:
    served = serve(tiny_llm(tiny_llama(max_positions=512)), limits=ConnectionLimits(max_stall=0.5))
    body = {"messages": HELLO, "ignore_eos": True, "max_tokens": 100, "stream": True}
    with served.http.stream("POST", CHAT, json=body) as response:
        lines = []
        for line in response.iter_lines():
            lines.append(line)
            time.sleep(0.01)
    assert lines[-2] == "data: [DONE]"


def test_that_an_answer_was_read_late_does_not_cut_off_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """The alarm about what waits to be read belongs to one answer. The loop's clock is the test's."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        monkeypatch.setattr(loop, "time", lambda: now)

        async def pass_by(seconds: float) -> None:
            """So much later, and with all done that is due by then."""
            nonlocal now
            now += seconds
            for _ in range(20):
                await asyncio.sleep(0)

        is_there = asyncio.Event()
        is_free = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            is_first = scope["path"] == "/first"
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
            if not is_first:
                is_there.set()
                await is_free.wait()
            await send({"type": "http.response.body", "body": b"x" * 9})

        config = Config(app, ConnectionLimits(max_stall=0.1), lifespan="off", log_config=None)
        config.load()
        state = ServerState()
        connection = Connection(config, server_state=state, app_state={})
        transport = Unread()
        connection.connection_made(transport)
        for path in (b"/first", b"/second"):
            connection.data_received(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await pass_by(0.02)
        assert is_there.is_set()
        await pass_by(0.3)
        assert not transport.is_aborted
        is_free.set()
        await pass_by(0.02)
        assert not transport.is_aborted
        await pass_by(0.3)
        assert transport.is_aborted, "this one is still not read"
        connection.connection_lost(None)

    asyncio.run(run())


class Unread(asyncio.Transport):
    """A transport on which nobody reads; what waits is little, so that nothing is paused."""

    is_aborted = False

    def write(self, data: Any) -> None:
        """Keep it."""

    def get_write_buffer_size(self) -> int:
        return 100

    def abort(self) -> None:
        self.is_aborted = True

    def close(self) -> None:
        """Wait for the reader."""

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def pause_reading(self) -> None:
        """Nothing comes."""

    def resume_reading(self) -> None:
        """Nothing comes."""

    def set_protocol(self, protocol: Any) -> None:
        """It stays."""
