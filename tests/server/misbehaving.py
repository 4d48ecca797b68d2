"""A server that speaks OpenAI's protocol as badly as a test wants it to.

`Misbehaving.script` has what it does with each request, in order; the last again and again: a status is an error, bytes
are a stream sent as they are, a number between them a pause in seconds, None hangs up. It records what it was asked.
"""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.server.threaded import in_a_thread


@dataclass(frozen=True)
class Refuse:
    """An error of this status."""

    status: int
    body: str = '{"error": {"message": "not now"}}'
    headers: Mapping[str, str] = field(default_factory=dict)


class Silence(float):
    """So many seconds of nothing at all; a plain number is a pause in which comments come."""


Stream = Sequence[bytes | float | None]
Act = Refuse | Stream | None


def said(*texts: str, finish: str | None = "stop", **more: Any) -> list[bytes]:
    """A good answer, an event for each text."""
    events = [event(content=text) for text in texts]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    usage = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": len(texts)}}
    return [*events, _data(end), _data(usage | more), b"data: [DONE]\n\n"]


def event(*, index: int = 0, finish: str | None = None, **delta: Any) -> bytes:
    """A chunk of a chat."""
    return _data({"choices": [{"index": index, "delta": delta, "finish_reason": finish}]})


def _data(value: Any) -> bytes:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


class Misbehaving(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[Act] = []
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.about = Refuse(200, '{"id": "m", "object": "model", "owned_by": "somebody"}')
        """What it says of its model."""
        self.hung_up = threading.Event()
        """Set when a client has left before the end of a stream."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""


@contextmanager
def misbehaving() -> Iterator[Misbehaving]:
    with Misbehaving() as server, in_a_thread(server):
        yield server


class _Handler(BaseHTTPRequestHandler):
    server: Misbehaving
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._send(self.server.about.status, self.server.about.body, self.server.about.headers)

    def do_POST(self) -> None:
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.keys.append(self.headers["Authorization"])
        script = self.server.script
        act = script.pop(0) if len(script) > 1 else script[0]
        match act:
            case None:
                self.close_connection = True
                self.connection.close()
            case Refuse():
                self._send(act.status, act.body, act.headers)
            case _:
                self._stream(act)

    def _stream(self, steps: Stream) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            for step in steps:
                match step:
                    case bytes():
                        self.wfile.write(step)
                        self.wfile.flush()
                    case None:
                        break
                    case Silence():
                        time.sleep(step)
                    case _:
                        end = time.monotonic() + step
                        while time.monotonic() < end:
                            time.sleep(0.01)
                            self.wfile.write(b": \n")
        except OSError:
            self.server.hung_up.set()
        self.close_connection = True

    def _send(self, status: int, body: str, headers: Mapping[str, str]) -> None:
        content = body.encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
