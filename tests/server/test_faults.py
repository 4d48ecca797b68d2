"""What goes wrong in one request stays there: the answer says so in its client's words, the log says no word of his."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from tests.server.conftest import Serve, Served

from malmoi import __version__
from malmoi.llm import LLM
from malmoi.server.trust.logged import LOGGER
from malmoi.testing.models import tiny_llama, tiny_llm

SECRET = "비밀-7f3a"
SAID = [{"role": "user", "content": f"제 암호는 {SECRET}입니다."}]
ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": SAID, "max_tokens": 4},
    "/v1/completions": {"prompt": SECRET, "max_tokens": 4},
    "/v1/responses": {"input": SECRET, "max_output_tokens": 4},
    "/v1/messages": {"messages": SAID, "max_tokens": 4, "model": "default"},
    "/v1/messages/count_tokens": {"messages": SAID, "model": "default"},
    "/api/chat": {"messages": SAID, "model": "default", "stream": False, "options": {"num_predict": 4}},
    "/api/generate": {"prompt": SECRET, "model": "default", "stream": False, "options": {"num_predict": 4}},
    "/v1/chat/render": {"messages": SAID},
    "/v1/embeddings": {"input": SECRET},
    "/v1/rerank": {"query": SECRET, "documents": [SECRET]},
    "/v1/classify": {"input": SECRET},
    "/api/embed": {"input": SECRET, "model": "default"},
    "/api/embeddings": {"prompt": SECRET, "model": "default"},
    "/tokenize": {"text": SECRET},
    "/detokenize": {"tokens": [1, 2, 3]},
    "/api/show": {"model": "default"},
}
"""A request of every endpoint that reads what people say."""
WRITES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/api/chat",
    "/api/generate",
)
"""Those whose answers a model writes."""


@pytest.fixture(scope="module")
def served(start_server: Serve) -> Served:
    return start_server(tiny_llm(tiny_llama(max_positions=512)))


@pytest.fixture
def broken(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server of a model whose engine raises at every step, until `mend` is called."""
    llm = tiny_llm(tiny_llama(max_positions=512))

    def step() -> None:
        raise RuntimeError("cuda error in /home/somebody/kernel.cu")

    with monkeypatch.context() as patch:
        patch.setattr(llm.engine, "step", step)
        served = serve(llm)
        served.mend = patch.undo  # type: ignore[attr-defined]
        yield served


@pytest.mark.parametrize("path", WRITES)
def test_a_crash_of_the_model_is_an_answer_and_the_next_request_works(
    broken: Served, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    for body in (ASKED[path], {**ASKED[path], "stream": True}):
        with broken.http.stream("POST", path, json=body) as response:
            answer = response.read().decode()
        assert response.status_code == (200 if body.get("stream") else 500)
        assert "something is wrong in the server" in answer
        assert "somebody" not in answer
    assert "somebody" in caplog.text
    assert broken.http.get("/health").status_code == 200
    broken.mend()  # type: ignore[attr-defined]
    assert broken.post(path, **ASKED[path]).status_code == 200


def test_a_crash_where_nobody_looked_for_one_is_an_answer_too(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve(tiny_llm(), api_keys=("one",), origins=("https://a.example",))
    monkeypatch.setattr(LLM, "default_params", property(lambda _: 1 / 0), raising=False)
    headers = {"Authorization": "Bearer one", "Origin": "https://a.example"}
    for path in ("/v1/chat/completions", "/v1/messages", "/api/chat"):
        with monkeypatch.context() as patch:
            patch.setattr("malmoi.server.catalogue.catalogue.Catalogue.name", lambda *_: 1 / 0)
            response = served.http.post(path, json=ASKED[path], headers=headers)
        assert response.status_code == 500
        assert "something is wrong in the server" in response.text
        # What is told to browsers holds for it as for any other.
        assert response.headers["access-control-allow-origin"] == "https://a.example"
        assert response.headers["x-content-type-options"] == "nosniff"
    assert caplog.text.count("ZeroDivisionError") == 3  # once each


# --- logs ---


def bodies(path: str) -> Iterator[bytes]:
    """A request of `path`, and what may become of it."""
    body = json.dumps(ASKED[path], ensure_ascii=False).encode()
    yield body
    yield json.dumps({**ASKED[path], "stream": True}, ensure_ascii=False).encode()
    yield body[:-3]
    yield json.dumps({**ASKED[path], SECRET: SECRET}, ensure_ascii=False).encode()
    yield json.dumps({**ASKED[path], "model": SECRET}, ensure_ascii=False).encode()
    yield json.dumps({key: [[SECRET]] for key in ASKED[path]}, ensure_ascii=False).encode()
    yield SECRET.encode() * 3


def test_every_endpoint_that_reads_a_text_is_among_them(served: Served) -> None:
    paths = served.http.get("/openapi.json").json()["paths"]
    reads = {
        path
        for path, methods in paths.items()
        if "application/json" in methods.get("post", {}).get("requestBody", {}).get("content", {})
    }
    assert reads == set(ASKED)


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("is_broken", [False, True])
def test_no_log_holds_what_people_say(
    served: Served,
    path: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    is_broken: bool,
) -> None:
    caplog.set_level(logging.DEBUG, logger="malmoi")
    caplog.set_level(logging.INFO, logger="uvicorn")
    if is_broken:
        monkeypatch.setattr(served.llm.engine, "step", lambda: 1 / 0)
    for body in bodies(path):
        served.http.post(f"{path}?{SECRET}", content=body, headers={"Content-Type": "application/json"})
    served.http.post(path, content=SECRET.encode(), headers={"Content-Type": "text/plain"})
    out, err = capfd.readouterr()
    for written in (caplog.text, out, err):
        assert SECRET not in written
        assert SECRET.encode().decode("latin-1") not in written
        assert "7f3a" not in written


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/generate", "/tokenize"])
def test_unless_the_owner_wants_it(serve: Serve, path: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=LOGGER)
    served = serve(tiny_llm(), logs_prompts=True)
    content = json.dumps(ASKED[path], ensure_ascii=False).encode()
    response = served.http.post(path, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 200
    [record] = [record for record in caplog.records if record.name == LOGGER]
    assert record.getMessage() == f"POST {path} {content.decode()}"


def test_of_a_sound_the_log_has_its_length_alone(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=LOGGER)
    served = serve(tiny_llm(), logs_prompts=True)
    served.http.post("/v1/audio/transcriptions", files={"file": ("a.wav", b"RIFF\xff\xfe")})
    [record] = [record for record in caplog.records if record.name == LOGGER]
    assert "bytes)" in record.getMessage()
    assert "RIFF" not in record.getMessage()


# --- whoever only looks ---


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/health", "/ready", "/v1/models", "/api/version", "/api/tags", "/metrics"]
)
def test_head_is_get_without_a_body(served: Served, path: str) -> None:
    got, head = served.http.get(path), served.http.head(path)
    assert head.status_code == got.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == got.headers["content-type"]
    for again in (1, 2):  # and the connection goes on
        assert served.http.head(path).status_code == 200, again


def test_head_of_nothing_is_nothing(served: Served) -> None:
    assert served.http.head("/no/such").status_code == 404
    assert served.http.head("/v1/chat/completions").status_code == 405


def test_the_clients_of_ollama_find_a_server_that_is_well(served: Served) -> None:
    assert served.http.get("/api/version").json() == {"version": __version__}
    assert served.http.options("/api/chat").headers["allow"] == "POST"
