"""Servers for tests: real ones, on a socket, in a thread of this process."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import uvicorn
from openai import OpenAI

from malmoi.llm import LLM
from malmoi.server.app import ServerSettings, create_app
from malmoi.server.catalogue.catalogue import Catalogue, Load
from malmoi.server.catalogue.entry import Entry
from malmoi.server.catalogue.room import Room
from malmoi.server.trust.connection import Config, ConnectionLimits
from malmoi.testing.models import tiny_llama, tiny_llm

HELLO = [{"role": "user", "content": "안녕?"}]


class Served:
    """A server that is there: its address, its models, and clients of it."""

    def __init__(self, url: str, models: Mapping[str, LLM]) -> None:
        self.url, self.models = url, models
        self.http = httpx.Client(base_url=url, timeout=60)
        self.openai = OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)

    @property
    def llm(self) -> LLM:
        return next(iter(self.models.values()))

    @property
    def num_blocks_in_use(self) -> int:
        return self.llm.engine.scheduler.num_blocks_in_use

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json=body)

    def chunks(self, path: str, **body: Any) -> list[dict[str, Any]]:
        """The events of a stream, which ends as it should."""
        with self.http.stream("POST", path, json={**body, "stream": True}) as response:
            assert response.status_code == 200, response.read()
            lines = [
                line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data:")
            ]
        assert lines[-1] == "[DONE]"
        return [json.loads(line) for line in lines[:-1]]

    def request(self, path: str, **body: Any) -> socket.socket:
        """A connection on which `body` was sent, to be read or closed by hand."""
        return self.send(path, json.dumps(body).encode())

    def send(self, path: str, body: bytes, **headers: str) -> socket.socket:
        """The same for bytes; headers as keywords, which replace those there would be."""
        fields = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(len(body))}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value)]
        host, port = self.url.removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)), timeout=60)
        connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
        return connection

    def until_idle(self) -> None:
        """Wait until nothing is computed any more, and nothing is kept for a request."""
        scheduler = self.llm.engine.scheduler
        wait_until(lambda: not (scheduler.running or scheduler.waiting))

    def close(self) -> None:
        self.http.close()
        self.openai.close()


def wait_until(is_so: Callable[[], object], *, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.002)


Serve = Callable[..., Served]
"""`serve(llm or {name: llm}, load=..., entries={name: entry}, room=..., limits=..., **settings)`.

Entries take the models' places.
"""


@pytest.fixture(scope="session")
def start_server() -> Iterator[Serve]:
    """Servers that live as long as the session."""
    with ExitStack() as servers:
        yield lambda *arguments, **settings: _start(servers, *arguments, **settings)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Servers that live as long as the test."""
    with ExitStack() as servers:
        yield lambda *arguments, **settings: _start(servers, *arguments, **settings)


def _start(
    servers: ExitStack,
    models: LLM | Mapping[str, LLM],
    *,
    load: Load | None = None,
    entries: Mapping[str, Entry] | None = None,
    room: Room | None = None,
    limits: ConnectionLimits | None = None,
    **settings: Any,
) -> Served:
    named = {"default": models} if isinstance(models, LLM) else models
    catalogue = Catalogue(
        {name: name for name in named} if entries is None else entries,
        load=load or (lambda path: named[str(path)]),
        room=room,
    )
    app = create_app(catalogue, ServerSettings(**settings))
    limits = limits or ConnectionLimits()
    config = Config(app, limits, port=0, log_level="warning", timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()

    def stop() -> None:
        server.should_exit = True
        thread.join()

    servers.callback(stop)
    wait_until(lambda: server.started)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    served = Served(f"http://{host}:{port}", named)
    servers.callback(served.close)
    return served


@pytest.fixture(scope="session")
def tiny(start_server: Serve) -> Served:
    """A server of one tiny model, for tests that leave nothing behind."""
    return start_server(tiny_llm(tiny_llama(max_positions=512)))


@pytest.fixture
def endless(serve: Serve) -> Served:
    """A server of a model that goes on for ever, as far as a test is concerned, if it is asked to."""
    return serve(tiny_llm(tiny_llama(max_positions=8192)))
