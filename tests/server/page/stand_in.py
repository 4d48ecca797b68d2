"""A server that says exact things at exact times, for the page: the same endpoints as ours, no model behind them.

`StandIn.script` holds what the next answers are, step by step: text is a delta, a number a pause in seconds, an Event a
wait until the test sets it, bytes go out raw, a mapping is a whole event, and None hangs up. It records what it was
asked.
"""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.server.threaded import in_a_thread

import malmoi

PAGE = Path(malmoi.__file__).parent / "server" / "page"
POLICY = "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
USAGE = {"prompt_tokens": 20, "completion_tokens": 12, "total_tokens": 32}
TIMINGS = {"first_token_s": 0.12, "tokens_per_second": 45.25}

Step = str | float | bytes | threading.Event | Mapping[str, Any] | None


class Refusal(Exception):
    """An answer that is an error instead, with a status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class StandIn(ThreadingHTTPServer):
    """The server; `url` is where it is."""

    daemon_threads = True
    request_queue_size = 128  # a browser asks for all modules of the page at once

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[Sequence[Step] | Refusal] = []
        self.models: list[dict[str, Any]] = [
            {"id": "malmoi", "malmoi": {"context_length": 128, "parameters": 1}},
            {"id": "other"},
        ]
        self.final_usage: Mapping[str, Any] | None = USAGE
        """What the last chunk of each answer says was used; None: the script says it."""
        self.asked: list[dict[str, Any]] = []
        self.headers: list[Mapping[str, str]] = []
        self.hung_up = threading.Event()
        """Set when the browser has closed a stream before its end."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no news; the tests look at `hung_up`."""


@contextmanager
def running() -> Iterator[StandIn]:
    """A stand-in that serves for as long as the context is open."""
    with StandIn() as server, in_a_thread(server):
        yield server


def chunk(*, index: int = 0, finish: str | None = None, logprobs: Any = None, **delta: Any) -> dict[str, Any]:
    """A piece of an answer, in OpenAI's form; `index` tells apart those of one request."""
    return {"choices": [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}]}


class _Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"  # which keeps connections

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/v1/models":
            return self._json({"object": "list", "data": self.server.models})
        file = PAGE / ("index.html" if path == "/" else path.removeprefix("/page/"))
        if file.parent != PAGE or not file.is_file():
            return self._json({"error": {"message": f"there is no {path}"}}, 404)
        self._send(file.read_bytes(), TYPES[file.suffix])

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.headers.append(dict(self.headers))
        if self.path == "/tokenize":
            pieces = [
                {"id": place, "bytes": list(piece), "text": piece.decode("utf-8", "replace")}
                for place, piece in enumerate(_cut(body["text"]))
            ]
            tokens = [piece["id"] for piece in pieces]
            return self._json({"tokens": tokens, "pieces": pieces, "count": len(pieces)})
        self.server.asked.append(body)
        script = self.server.script.pop(0)
        if isinstance(script, Refusal):
            error = {"message": str(script), "type": "invalid_request_error", "param": None, "code": None}
            return self._json({"error": error}, script.status)
        self._stream(script)

    def _stream(self, steps: Sequence[Step]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")  # the end of the stream is the end of the connection
        self.end_headers()
        is_ended = False
        try:
            for step in steps:
                match step:
                    case str():
                        self._event(chunk(content=step))
                    case bytes():
                        self.wfile.write(step)
                    case threading.Event():
                        while not step.wait(0.02):
                            self.wfile.write(b": \n\n")
                    case None:
                        return
                    case Mapping():
                        is_ended = is_ended or "error" in step or bool(step["choices"][0]["finish_reason"])
                        self._event(step)
                    case _:
                        time.sleep(step)
            if not is_ended:
                self._event(chunk(finish="stop"))
            used = {} if self.server.final_usage is None else {"usage": self.server.final_usage}
            self._event({"choices": [], **used, "timings": TIMINGS})
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            self.server.hung_up.set()

    def _event(self, event: Mapping[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode())

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(json.dumps(value, ensure_ascii=False).encode(), "application/json", status)

    def _send(self, content: bytes, kind: str, status: int = 200) -> None:
        self.send_response(HTTPStatus(status))
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(content)


def _cut(text: str) -> Iterator[bytes]:
    """A token for each character, and three for 한: its bytes."""
    for character in text:
        if character == "한":
            yield from (bytes([byte]) for byte in character.encode())
        else:
            yield character.encode()
