"""What strangers may send: keys, hosts, sizes, and bodies that are meant to break something."""

import asyncio
import base64
import hmac
import io
import json
import logging
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest
from PIL import Image
from tests.server.conftest import HELLO, Serve, Served, wait_until
from tests.server.seeing import seeing_llm

from malmoi.core.errors import MediaError
from malmoi.llm.async_llm import MAX_FETCHING
from malmoi.llm.media import MAX_FETCHED, MAX_FILES, MediaPolicy
from malmoi.server.errors import ServerError
from malmoi.server.trust import access, limits
from malmoi.server.trust.limits import LimitBody
from malmoi.server.trust.logged import LOGGER, LogPrompts
from malmoi.testing.models import tiny_llama, tiny_llm

CHAT = "/v1/chat/completions"
KEYS = ("first-key", "둘째-열쇠")
JSON = {"Content-Type": "application/json"}


def works(served: Served) -> None:
    """The next request is answered."""
    assert served.post(CHAT, messages=HELLO, max_tokens=2).status_code == 200


def answer_of(connection: socket.socket) -> tuple[int, bytes]:
    """The status and the body of what comes on a connection, which is closed."""
    with connection, connection.makefile("rb") as file:
        status = int(file.readline().split()[1])
        length = 0
        while (line := file.readline().strip()) != b"":
            name, _, value = line.partition(b": ")
            length = int(value) if name.lower() == b"content-length" else length
        return status, file.read(length)


# --- keys and hosts ---


@pytest.fixture(scope="module")
def locked(start_server: Serve) -> Served:
    return start_server(tiny_llm(), api_keys=KEYS)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("name", "form"), [("Authorization", "Bearer {}"), ("X-Api-Key", "{}")])
def test_each_of_the_keys_opens(locked: Served, key: str, name: str, form: str) -> None:
    response = locked.http.get("/v1/models", headers={name: form.format(key).encode()})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer first-key2"},
        {"Authorization": "Bearer FIRST-KEY"},
        {"Authorization": "Basic first-key"},
        {"Authorization": "first-key"},
        {"X-Api-Key": "first-ke"},
        {"Cookie": "key=first-key"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/openapi.json", "/v1/no/such"])
def test_nothing_else_does(locked: Served, path: str, headers: dict[str, str]) -> None:
    response = locked.http.get(path, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["error"]["type"] == "authentication_error"
    assert "first" not in response.text


def test_a_key_in_the_address_is_none(locked: Served) -> None:
    assert locked.http.get("/v1/models?api_key=first-key").status_code == 401


def test_health_is_open_and_a_refused_body_is_not_read(locked: Served) -> None:
    assert locked.http.get("/health").status_code == 200
    status, _ = answer_of(locked.send(CHAT, b"", Content_Length="1000000"))
    assert status == 401


def test_only_digests_are_kept_and_all_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def noted(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    async def nothing(*_: Any) -> None:
        return None

    layer = access.RequireKey(nothing, KEYS)
    assert not any(key.encode() in repr(vars(layer)).encode() for key in KEYS)

    class Noted:
        compare_digest = staticmethod(noted)

    monkeypatch.setattr(access, "hmac", Noted)

    for key in ("first-key", "x", "x" * 10_000):
        scope = {
            "type": "http",
            "path": "/v1/models",
            "headers": [(b"authorization", f"Bearer {key}".encode())],
        }
        asyncio.run(layer(scope, nothing, nothing))
    assert compared == [(32, 32)] * len(KEYS) * 3


@pytest.mark.parametrize("host", ["localhost", "localhost:80", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"])
def test_a_server_of_this_machine_answers_to_its_names(serve: Serve, host: str) -> None:
    served = serve(tiny_llm(), hosts=tuple(access.LOOPBACK))
    assert served.http.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.io", ""]
)
def test_and_to_no_other_so_that_no_page_can_reach_it_by_a_name_of_its_own(serve: Serve, host: str) -> None:
    served = serve(tiny_llm(), hosts=tuple(access.LOOPBACK))
    response = served.http.get("/v1/models", headers={"Host": host})
    assert response.status_code == 421
    assert "localhost" in response.json()["error"]["message"]


def test_a_page_of_another_origin_is_told_nothing(tiny: Served) -> None:
    origin = {"Origin": "https://evil.example"}
    asked = {
        **origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    preflight = tiny.http.options(CHAT, headers=asked)
    assert preflight.status_code >= 400
    answer = tiny.http.post(CHAT, json={"messages": HELLO, "max_tokens": 1}, headers=origin)
    for response in (preflight, answer):
        assert not [name for name in response.headers if name.startswith("access-control")]
    # What a page may send without asking first is not read as JSON.
    simple = tiny.http.post(
        CHAT, content=json.dumps({"messages": HELLO}), headers={"Content-Type": "text/plain"}
    )
    assert simple.status_code == 400


# --- how much ---


def test_a_body_that_says_to_be_too_large_is_refused_before_it_is_read(tiny: Served) -> None:
    status, body = answer_of(tiny.send(CHAT, b"{", Content_Length=str(100 * 2**20)))
    assert status == 413
    assert b"33554432 bytes" in body
    works(tiny)


def test_a_body_of_100_mb_is_refused(tiny: Served) -> None:
    connection = tiny.send(CHAT, b"", Content_Length=str(100 * 2**20))
    try:
        for _ in range(100):
            connection.sendall(b"[" * 2**20)
    except ConnectionError:
        pass
    else:
        assert answer_of(connection)[0] == 413
    connection.close()
    works(tiny)


def test_a_body_that_does_not_say_how_large_it_is_is_counted(serve: Serve) -> None:
    served = serve(tiny_llm(), max_body_bytes=10_000)
    chunk = b"2710\r\n" + b" " * 10_000 + b"\r\n"
    for num_chunks, wanted in ((2, 413), (50, 413)):
        connection = served.send(CHAT, b"", Content_Length="", Transfer_Encoding="chunked")
        for _ in range(num_chunks):
            connection.sendall(chunk)
        status, body = answer_of(connection)
        assert (status, json.loads(body)["error"]["message"]) == (
            wanted,
            "the body has more than 10000 bytes. Send less.",
        )
    works(served)


def test_a_body_that_does_not_come_is_not_waited_for(serve: Serve) -> None:
    served = serve(tiny_llm(), max_pause=2, max_requests=3)  # enough for the last one on a machine that stalls
    slow = [served.send(CHAT, b"{", Content_Length="100") for _ in range(3)]
    assert [answer_of(connection)[0] for connection in slow] == [408] * 3
    works(served)


def test_many_connections_that_send_nothing_are_in_nobodys_way(serve: Serve) -> None:
    served = serve(tiny_llm())
    host, port = served.url.removeprefix("http://").split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(200)]
    for connection in idle:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nX-Slow: ")
    works(served)
    for connection in idle:
        connection.close()


def test_one_more_than_are_allowed_is_told_to_come_again(serve: Serve) -> None:
    llm = tiny_llm(tiny_llama(max_positions=8192))
    served = serve(llm, max_requests=2)
    busy = [served.request(CHAT, messages=HELLO, ignore_eos=True, stream=True) for _ in range(2)]
    wait_until(lambda: len(llm.engine.scheduler.running) == 2)
    response = served.post(CHAT, messages=HELLO)
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["error"]["type"] == "rate_limit_error"
    assert served.http.get("/health").status_code == 200
    for connection in busy:
        connection.close()
    served.until_idle()
    wait_until(lambda: served.post(CHAT, messages=HELLO, max_tokens=1).status_code == 200)


# --- what is no request at all ---

DEEP = 10_000
BROKEN: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "the body is missing"),
    "no JSON": (b"{'messages': []}", "is not JSON"),
    "half of it": (b'{"messages": [', "is not JSON"),
    "more behind it": (b"{} {}", "is not JSON"),
    "a list": (b"[]", "is not a JSON object"),
    "a word": (b'"messages"', "is not a JSON object"),
    "no UTF-8": (b'{"messages": "\xff\xfe"}', "is not UTF-8"),
    "half a character": (b'{"messages": "\xed\x95"}', "is not UTF-8"),
    "10,000 lists": (b"[" * DEEP + b"]" * DEEP, "nested too deeply"),
    "10,000 objects": (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "nested too deeply"),
    "10,000 lists in a message": (b'{"messages": ' + b"[" * DEEP + b"]" * DEEP + b"}", "nested too deeply"),
    "900 lists in a message": (
        b'{"messages": [{"role": "user", "content": ' + b"[" * 900 + b"]" * 900 + b"}]}",
        "a part of a message is of the type list",
    ),
    "half a surrogate": (
        b'{"messages": [{"role": "user", "content": "\\ud55c\\ud800"}]}',
        "half a character",
    ),
    "half a surrogate as a name": (b'{"messages": [], "\\ud800": 1}', "body"),
    "half a surrogate as a model": (b'{"messages": [], "model": "\\ud800"}', "model"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_request_is_told_why_and_the_next_works(tiny: Served, kind: str) -> None:
    body, reason = BROKEN[kind]
    response = tiny.http.post(CHAT, content=body, headers=JSON)
    assert response.status_code in (400, 404), response.text
    assert reason in response.json()["error"]["message"]
    works(tiny)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_another_type_of_content_is_told_which_one_is_read(tiny: Served, kind: str) -> None:
    headers = {"Content-Type": kind} if kind else {}
    response = tiny.http.post(CHAT, content=json.dumps({"messages": HELLO}), headers=headers)
    assert response.status_code == 400
    assert "Content-Type: application/json" in response.json()["error"]["message"]


def test_a_path_or_a_method_that_is_not_there_is_an_error_in_the_same_form(tiny: Served) -> None:
    missing, wrong = tiny.http.get("/v1/nothing"), tiny.http.get(CHAT)
    assert (missing.status_code, wrong.status_code) == (404, 405)
    assert wrong.headers["allow"] == "POST"
    for response in (missing, wrong):
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    works(tiny)


@pytest.mark.parametrize(
    "path", ["/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2fapp.py", "/page//etc/passwd"]
)
def test_no_file_beside_the_page_is_given_away(tiny: Served, path: str) -> None:
    host, port = tiny.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert answer_of(connection)[0] == 404


# --- images ---


@pytest.fixture(scope="module")
def seeing(start_server: Serve) -> Served:
    return start_server(seeing_llm())


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(file, "PNG")
    return file.getvalue()


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def look(served: Served, url: str) -> httpx.Response:
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "무엇?"}]
    return served.post(CHAT, messages=[{"role": "user", "content": parts}], max_tokens=2)


def bomb() -> bytes:
    """A PNG that says to be 60,000 x 60,000, of a few bytes."""
    good = bytearray(png(4, 4))
    good[16:24] = (60_000).to_bytes(4, "big") * 2
    good[29:33] = zlib.crc32(good[12:29]).to_bytes(4, "big")
    return bytes(good)


def animation() -> bytes:
    """A GIF of 10,000 frames."""
    file = io.BytesIO()
    frames = [Image.new("P", (1, 1), shade % 256) for shade in range(10_000)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


POISONED: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "noise": lambda: bytes(range(256)),
    "half of one": lambda: png(40, 40)[:60],
    "a bomb": bomb,
    "a vector image": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "an animation": animation,
    "a page": lambda: b"<!doctype html><script>alert(1)</script>",
    "PostScript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
    "a sound": lambda: b"RIFF\x24\0\0\0WAVEfmt ",
    "one and its end": lambda: png(4, 4)[:33] + png(4, 4)[-12:],
}


@pytest.mark.parametrize("kind", POISONED)
def test_a_poisoned_image_is_refused_and_a_good_one_is_seen(seeing: Served, kind: str) -> None:
    response = look(seeing, data_url(POISONED[kind]()))
    assert response.status_code == 400, response.text
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert response.json()["error"]["message"].endswith(".")
    assert look(seeing, data_url(png(9, 12))).status_code == 200


@pytest.mark.parametrize(
    "kind", ["http://127.0.0.1:{port}/", "https://127.0.0.1:{port}/x.png", "file://{path}", "{path}"]
)
def test_no_image_is_fetched_and_no_file_opened_for_a_stranger(
    seeing: Served, tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    file = tmp_path_factory.mktemp("private") / "image.png"
    file.write_bytes(png(8, 8))
    fetched = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as bait:
        port = bait.getsockname()[1]
        bait.settimeout(0.3)

        def listen() -> None:
            try:
                bait.accept()
            except TimeoutError:
                return
            fetched.set()

        listener = threading.Thread(target=listen)
        listener.start()
        response = look(seeing, kind.format(port=port, path=file))
        listener.join()
    assert response.status_code == 400
    assert str(file) not in response.text
    assert not fetched.is_set()


def test_more_images_than_are_allowed_are_refused_before_one_is_read(seeing: Served) -> None:
    part = {"type": "image_url", "image_url": {"url": data_url(png(8, 8))}}
    message = {"role": "user", "content": [part] * (MAX_FILES + 1)}
    response = seeing.post(CHAT, messages=[message])
    assert response.status_code == 400
    assert f"{MAX_FILES} are allowed" in response.json()["error"]["message"]


@pytest.fixture
def policy(seeing: Served) -> Iterator[Callable[..., None]]:
    """Sets what the files of requests may be, for a test."""
    media = seeing.llm.builder.media

    def allow(**changes: Any) -> None:
        media.policy = MediaPolicy(**changes)

    yield allow
    media.policy = MediaPolicy()


def test_an_image_of_more_pixels_than_the_owner_allows_is_not_decoded(
    seeing: Served, policy: Callable[..., None]
) -> None:
    policy(max_image_pixels=100)
    assert look(seeing, data_url(png(10, 10))).status_code == 200
    response = look(seeing, data_url(png(10, 11)))
    assert response.status_code == 400
    assert "10 x 11 pixels, and 100 are allowed" in response.json()["error"]["message"]


def test_what_the_owner_lets_be_fetched_is_seen_and_nothing_else(
    seeing: Served, policy: Callable[..., None]
) -> None:
    fetched = []

    def fetch(url: str) -> bytes:
        fetched.append(url)
        if "images.example" not in url:
            raise MediaError("nothing is fetched from there. Send the file itself.")
        return png(9, 9)

    policy(fetch=fetch)
    assert look(seeing, "https://images.example/cat.png").status_code == 200
    assert look(seeing, "https://evil.example/cat.png").status_code == 400
    assert fetched == ["https://images.example/cat.png", "https://evil.example/cat.png"]
    for url in ("file:///etc/passwd", "/etc/passwd", "cat.png", "ftp://images.example/cat.png"):
        assert look(seeing, url).status_code == 400
    part = {"type": "image_url", "image_url": {"url": "https://images.example/cat.png"}}
    response = seeing.post(CHAT, messages=[{"role": "user", "content": [part] * (MAX_FETCHED + 1)}])
    assert f"{MAX_FETCHED} are allowed" in response.json()["error"]["message"]
    assert len(fetched) == 2
    anthropic = {"type": "image", "source": {"type": "url", "url": "https://images.example/dog.png"}}
    body = {"model": "default", "max_tokens": 1, "messages": [{"role": "user", "content": [anthropic]}]}
    assert seeing.post("/v1/messages", **body).status_code == 200
    assert fetched[-1] == "https://images.example/dog.png"


def test_nobody_waits_for_files_that_others_have_fetched_slowly(
    seeing: Served, policy: Callable[..., None]
) -> None:
    may_come, fetched = threading.Event(), []

    def fetch(url: str) -> bytes:
        fetched.append(url)
        may_come.wait(60)
        return png(8, 8)

    policy(fetch=fetch)
    part = {"type": "image_url", "image_url": {"url": "https://images.example/cat.png"}}
    message = {"role": "user", "content": [part]}
    with ExitStack() as connections:
        for _ in range(40):  # more than there are threads for everything else
            connections.enter_context(seeing.request(CHAT, messages=[message], max_tokens=1))
        connections.callback(may_come.set)
        wait_until(lambda: len(fetched) == MAX_FETCHING)
        sent = {"type": "image_url", "image_url": {"url": data_url(png(8, 8))}}
        for other in (sent, {"type": "text", "text": "말"}):
            message = {"role": "user", "content": [other]}
            assert seeing.post(CHAT, messages=[message], max_tokens=1).status_code == 200
        assert len(fetched) == MAX_FETCHING


def test_a_refusal_of_a_large_body_is_read_by_who_sends_it_first(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is on its way is let pass: closing with bytes unread would take the answer along."""
    monkeypatch.setattr(limits, "LET_PASS_SECONDS", 60.0)
    monkeypatch.setattr(limits, "LET_PASS_MAX_PAUSE", 30.0)  # so long whoever sends may be kept from it
    served = serve(tiny_llm(), max_body_bytes=10_000)
    connection = served.send(CHAT, b" " * 100_000, Content_Length="300000")
    for _ in range(2):
        time.sleep(0.05)  # in which a server that lets nothing pass closes
        connection.sendall(b" " * 100_000)
    status, body = answer_of(connection)
    assert status == 413
    assert b"10000 bytes" in body


def test_what_is_let_pass_is_not_waited_for_long(serve: Serve) -> None:
    served = serve(tiny_llm(), max_body_bytes=10_000)
    connection = served.send(CHAT, b"", Content_Length=str(10**6))
    is_over = threading.Event()

    def drip() -> None:
        with suppress(OSError):
            while not is_over.wait(0.03):
                connection.sendall(b" ")

    thread = threading.Thread(target=drip)
    begin = time.monotonic()
    thread.start()
    try:
        status, _ = answer_of(connection)
    finally:
        is_over.set()
        thread.join()
    assert status == 413
    assert time.monotonic() - begin < 8


@pytest.mark.parametrize("length", [b"11", b""], ids=["said", "unsaid"])
def test_nor_when_bytes_come_in_the_moment_that_the_time_ends(length: bytes) -> None:
    """The second is over while the loop is busy, and the next bytes are there when it looks again."""
    num_received = 0

    async def receive() -> dict[str, Any]:
        nonlocal num_received
        num_received += 1
        assert num_received < 50, "it waits for ever"
        await asyncio.sleep(0)
        time.sleep(0.05)  # the loop is busy
        return {"type": "http.request", "body": b" " * 11, "more_body": True}

    async def reads(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async def send(message: Any) -> None:
        """Nothing is sent."""

    limit = LimitBody(reads, max_bytes=10, max_pause=5)
    with pytest.raises(ServerError, match="more than 10 bytes"):
        asyncio.run(limit.admit({"type": "http", "headers": [(b"content-length", length)]}, receive, send))


def test_a_page_of_another_origin_may_read_who_answered() -> None:
    assert {"x-malmoi-model", "x-malmoi-why"} <= {*access.EXPOSED_HEADERS}


def test_what_is_asked_cannot_write_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=LOGGER)
    body = "말\n2026 GET /\x1b]0;\x07\x9b\u2028".encode()

    async def reads(scope: Any, receive: Any, send: Any) -> None:
        await receive()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        """Nothing is sent."""

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/x\n\x1b[2J", "headers": headers}
    asyncio.run(LogPrompts(reads)(scope, receive, send))
    [record] = caplog.records
    assert record.getMessage() == "POST /x\\n\\x1b[2J 말\\n2026 GET /\\x1b]0;\\x07\\x9b\\u2028"
