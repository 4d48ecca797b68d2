"""A page of another origin in a real browser: what it may send without asking computes nothing, and leave is leave."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.server.conftest import Serve

from malmoi.testing.models import tiny_llm

CHAT = "/v1/chat/completions"
ASK = """async ([url, options]) => {
    try {
        const answer = await fetch(url, options);
        return [answer.type, answer.status, answer.headers.get("x-ratelimit-remaining-requests"), await answer.text()];
    } catch (problem) {
        return ["refused", 0, null, ""];
    }
}"""
BODY = '{"messages": [{"role": "user", "content": "안녕?"}], "max_tokens": 1}'


class _Empty(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Elsewhere</title>")


@pytest.fixture
def elsewhere(browser: Any) -> Iterator[Any]:
    """A page of another origin on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Empty) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        yield page
        context.close()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("mode", ["no-cors", "cors"])
@pytest.mark.parametrize("kind", ["text/plain", "application/json", "multipart/form-data; boundary=x"])
def test_it_cannot_use_a_server_that_has_not_named_it(
    elsewhere: Any, serve: Serve, monkeypatch: pytest.MonkeyPatch, mode: str, kind: str
) -> None:
    llm = tiny_llm()
    served = serve(llm)
    built: list[Any] = []
    monkeypatch.setattr(llm.builder, "build", lambda *arguments, **options: built.append(arguments))
    options = {"method": "POST", "mode": mode, "body": BODY, "headers": {"Content-Type": kind}}
    for path in (CHAT, "/v1/audio/transcriptions", "/api/chat"):
        told = elsewhere.evaluate(ASK, [f"{served.url}{path}", options])
        assert told in (["opaque", 0, None, ""], ["refused", 0, None, ""])
    assert built == []
    assert not served.num_blocks_in_use


def test_it_can_where_the_owner_has_named_it_and_reads_what_is_left(elsewhere: Any, serve: Serve) -> None:
    origin = elsewhere.evaluate("location.origin")
    served = serve(tiny_llm(), api_keys=("one",), origins=(origin,), rate=5)
    headers = {"Content-Type": "application/json", "Authorization": "Bearer one", "X-Stainless-Lang": "js"}
    told = elsewhere.evaluate(
        ASK, [f"{served.url}{CHAT}", {"method": "POST", "body": BODY, "headers": headers}]
    )
    assert told[:3] == ["cors", 200, "4"]
    assert '"chat.completion"' in told[3]
    wrong = {**headers, "Authorization": "Bearer two"}
    told = elsewhere.evaluate(
        ASK, [f"{served.url}{CHAT}", {"method": "POST", "body": BODY, "headers": wrong}]
    )
    assert told[:2] == ["cors", 401]
    assert "a key is missing or wrong" in told[3]
