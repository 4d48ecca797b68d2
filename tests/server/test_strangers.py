"""What no client of ours would send, to every endpoint: the answer is a 4xx that says why, and the next one works.

What is sent goes through a real socket. What is too large, too slow or no HTTP: test_trust.py, test_connection.py.
"""

import json
import random
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.server.conftest import HELLO, Serve, Served, wait_until
from tests.server.test_encoders import encoder

from malmoi.server.errors import ServerError
from malmoi.server.strict_json import loads
from malmoi.testing.models import tiny_llama, tiny_llm

ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HELLO, "max_tokens": 2},
    "/v1/completions": {"prompt": "말", "max_tokens": 2},
    "/v1/responses": {"input": "말", "max_output_tokens": 2},
    "/v1/messages": {"model": "default", "messages": HELLO, "max_tokens": 2},
    "/v1/messages/count_tokens": {"model": "default", "messages": HELLO},
    "/v1/chat/render": {"messages": HELLO},
    "/v1/embeddings": {"model": "encoder", "input": "말"},
    "/v1/classify": {"model": "labels", "input": "말"},
    "/v1/rerank": {"model": "rank", "query": "말", "documents": ["글"]},
    "/api/chat": {"model": "default", "messages": HELLO, "stream": False, "options": {"num_predict": 2}},
    "/api/generate": {"model": "default", "prompt": "말", "stream": False, "options": {"num_predict": 2}},
    "/api/embed": {"model": "encoder", "input": "말"},
    "/api/embeddings": {"model": "encoder", "prompt": "말"},
    "/api/show": {"model": "default"},
    "/tokenize": {"text": "말"},
    "/detokenize": {"tokens": [5, 6]},
}
"""A good request of every endpoint that reads JSON."""
WRITES = [path for path, body in ASKED.items() if "max_tokens" in body or "max_output_tokens" in body]


@pytest.fixture(scope="module")
def served(start_server: Serve) -> Served:
    models: dict[str, Any] = {
        "default": tiny_llm(tiny_llama(max_positions=512)),
        "encoder": encoder(),
        "labels": encoder(head="sequence", labels=("부정", "긍정")),
        "rank": encoder(head="sequence", labels=("점수",), problem_type="regression"),
    }
    return start_server(models)


def answered(served: Served, path: str, content: bytes) -> tuple[int, str]:
    """The status of an answer to these bytes, and what the answer says in whichever form."""
    response = served.http.post(path, content=content, headers={"Content-Type": "application/json"})
    if response.status_code == 200:
        return 200, response.text
    error = response.json()["error"]
    return response.status_code, error if isinstance(error, str) else error["message"]


def broken(path: str) -> Iterator[tuple[bytes, str]]:
    """Bodies that are none, and a word of what is said of each."""
    good = json.dumps(ASKED[path]).encode()
    first, value = next(iter(ASKED[path].items()))
    yield b"", "missing"
    yield b"\x00" * 100, "JSON"
    yield good + b"\x00", "JSON"
    yield good[:-1], "JSON"
    yield b"[" + good + b"]", "object"
    yield good.replace(b'"', b"'"), "JSON"
    yield b"\xff\xfe" + good, "UTF-8"  # it begins as UTF-16 does
    yield good[:-1] + b', "user": "\xed\x95"}', "UTF-8"
    yield good[:-1] + b', "' + first.encode() + b'": ' + json.dumps(value).encode() + b"}", "twice"
    yield good[:-1] + b', "a": {"b": 1, "b": 1}}', "twice"
    yield good[:-1] + b', "a": NaN}', "NaN"
    yield good[:-1] + b', "a": [-Infinity]}', "-Infinity"
    yield good[:-1] + b', "a": ' + b"9" * 5000 + b"}", "digits"
    yield good[:-1] + b', "a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "deep"
    yield good[:-1] + b', "\\ud800": 1}', "half a character"


def test_every_endpoint_that_reads_json_is_among_them(served: Served) -> None:
    paths = served.http.get("/openapi.json").json()["paths"]
    reads = {
        path
        for path, operations in paths.items()
        if "application/json" in operations.get("post", {}).get("requestBody", {}).get("content", {})
    }
    assert reads == set(ASKED)


@pytest.mark.parametrize("path", ASKED)
def test_what_is_no_body_is_told_why_and_the_next_works(served: Served, path: str) -> None:
    for content, word in broken(path):
        status, said = answered(served, path, content)
        assert (status, word in said) == (400, True), (content[:100], said)
    assert answered(served, path, json.dumps(ASKED[path]).encode())[0] == 200


ODD = [
    10**30, -(10**30), 10**400, -1, 0, 1e308, True, "", "\x00", "\ud800", "\U0010ffff", "가" * 5000,
    [], {}, [[]], [{}], [None], {"": ""}, {"type": "x" * 1000}, [0] * 1000, ["\x00"],
]  # fmt: skip


@pytest.mark.parametrize("path", ASKED)
def test_whatever_a_parameter_is_no_answer_is_an_error_of_the_server(served: Served, path: str) -> None:
    """And every answer is JSON that can be read as UTF-8."""
    [reference] = (
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        for operation in [served.http.get("/openapi.json").json()["paths"][path]["post"]]
    )
    schemas = served.http.get("/openapi.json").json()["components"]["schemas"]
    for name in schemas[reference.rpartition("/")[2]]["properties"]:
        for value in ODD:
            body = {**ASKED[path], name: value}
            status, said = answered(served, path, json.dumps(body).encode())
            assert status in (200, 400, 404, 413), (name, value, said)
            assert status == 200 or said.endswith((".", "?")), (name, value, said)
    assert answered(served, path, json.dumps(ASKED[path]).encode())[0] == 200


@pytest.mark.parametrize("path", WRITES)
def test_a_nul_in_a_text_is_a_character_like_any_other(served: Served, path: str) -> None:
    body = json.loads(json.dumps(ASKED[path]).replace(json.dumps("말")[1:-1], "\\u0000").replace("?", "\\u0000"))
    assert served.post(path, **body).status_code == 200


@pytest.mark.parametrize("path", ASKED)
def test_half_a_body_and_no_more_leaves_nothing_behind(served: Served, path: str) -> None:
    content = json.dumps(ASKED[path]).encode()
    for length in (0, 1, len(content) // 2, len(content) - 1):
        served.send(path, content[:length], Content_Length=str(len(content))).close()
    connection = served.send(path, content[:5], Content_Length=str(len(content)))
    connection.shutdown(socket.SHUT_WR)  # it still listens, and has no more to say
    connection.close()
    assert answered(served, path, content)[0] == 200
    served.until_idle()
    assert served.num_blocks_in_use == 0


@pytest.mark.parametrize("path", WRITES)
def test_whoever_leaves_at_whatever_moment_leaves_no_block_behind(served: Served, path: str) -> None:
    """Before its prompt is read, while it is, and while the answer comes; streams, and answers in one piece."""
    long = json.loads(json.dumps(ASKED[path]).replace(json.dumps("말")[1:-1], "말" * 60))
    for name in ("max_tokens", "max_output_tokens"):
        long.pop(name, None)
    long |= {"max_tokens": 400} if path == "/v1/messages" else {}
    moments = random.Random(0)
    for number in range(12):
        connection = served.request(path, **long, stream=number % 2 == 0)
        time.sleep(moments.choice([0, 0.001, 0.01, 0.1]) * moments.random())
        if number % 3 == 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")  # a reset
        connection.close()
    wait_until(lambda: served.llm.engine.scheduler.num_blocks_in_use == 0)
    served.until_idle()
    assert answered(served, path, json.dumps(ASKED[path]).encode())[0] == 200


def test_a_name_that_is_twice_among_many_is_found_in_one_look() -> None:
    names = [f'"{number}": 0' for number in range(60_000)]
    begin = time.thread_time()
    with pytest.raises(ServerError, match="'59999' is twice"):
        loads(("{" + ", ".join([*names, names[-1]]) + "}").encode())
    assert time.thread_time() - begin < 5  # one look for each name takes minutes
