"""Pages of other origins: none may use the server, unless its owner names them."""

import json
from typing import Any

import httpx
import pytest
from tests.server.conftest import HELLO, Serve, Served

from malmoi.llm import LLM
from malmoi.testing.models import tiny_llm

CHAT = "/v1/chat/completions"
OURS, EVIL = "https://chat.example", "https://evil.example"
JSON = {"Content-Type": "application/json"}
BODY = json.dumps({"messages": HELLO, "max_tokens": 1}).encode()
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, x-stainless-os",
}


class Counted:
    """A server, and how many requests have reached its model."""

    def __init__(self, served: Served, llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
        self.served, self.num_built = served, 0
        whole = llm.builder.build

        def build(*arguments: Any, **options: Any) -> Any:
            self.num_built += 1
            return whole(*arguments, **options)

        monkeypatch.setattr(llm.builder, "build", build)

    def post(self, path: str = CHAT, content: bytes = BODY, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.served.http.post(path, content=content, headers={**JSON, **named})


@pytest.fixture
def open_(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Counted:
    """A server of this machine that asks for no key and lets no page in."""
    llm = tiny_llm()
    return Counted(serve(llm), llm, monkeypatch)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": EVIL, "Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (CHAT, "application/json"),
        (CHAT, "text/plain"),
        ("/api/chat", "text/plain"),
        ("/v1/audio/transcriptions", "multipart/form-data; boundary=x"),
        ("/v1/audio/transcriptions", "application/x-www-form-urlencoded"),
    ],
)
def test_a_page_elsewhere_cannot_use_a_server_without_keys(
    open_: Counted, path: str, kind: str, headers: dict[str, str]
) -> None:
    response = open_.post(path, Content_Type=kind, **headers)
    assert response.status_code == 403
    assert "--cors" in response.text
    assert not [name for name in response.headers if name.startswith("access-control")]
    assert open_.num_built == 0


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec_Fetch_Site": "same-origin", "Origin": "https://behind.a.proxy"},
        {"Sec_Fetch_Site": "none"},
        {"Origin": "http://{host}"},
        {"Origin": "https://{host}"},
    ],
    ids=str,
)
def test_our_own_page_and_a_program_can(open_: Counted, headers: dict[str, str]) -> None:
    host = open_.served.url.removeprefix("http://")
    response = open_.post(**{name: value.format(host=host) for name, value in headers.items()})
    assert response.status_code == 200
    assert open_.num_built == 1


def test_a_link_from_elsewhere_opens_the_page(open_: Counted) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert open_.served.http.get("/", headers=headers).status_code == 200


def test_without_a_word_of_the_owner_no_browser_is_given_leave(open_: Counted) -> None:
    for origin in (OURS, EVIL, "null"):
        preflight = open_.served.http.options(CHAT, headers={"Origin": origin, **PREFLIGHT})
        assert preflight.status_code == 405
        assert preflight.headers["allow"] == "POST"
        assert not [name for name in preflight.headers if name.startswith("access-control")]


@pytest.fixture(scope="module")
def shared(start_server: Serve) -> Served:
    """A server with keys that pages of OURS may ask."""
    return start_server(tiny_llm(), api_keys=("one",), origins=(OURS, "http://localhost:3000"), rate=1000)


@pytest.mark.parametrize("origin", [OURS, "http://localhost:3000"])
def test_a_named_origin_is_given_leave_without_a_key_and_reads_every_answer(
    shared: Served, origin: str
) -> None:
    preflight = shared.http.options(CHAT, headers={"Origin": origin, **PREFLIGHT})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == origin
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "x-stainless-os" in preflight.headers["access-control-allow-headers"]
    for key, body, status in (("one", BODY, 200), ("two", BODY, 401), ("one", b"{", 400)):
        headers = {**JSON, "Origin": origin, "Authorization": f"Bearer {key}", "Sec-Fetch-Site": "cross-site"}
        answer = shared.http.post(CHAT, content=body, headers=headers)
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == origin
        assert "x-ratelimit-remaining-requests" in answer.headers["access-control-expose-headers"]
        assert "Origin" in answer.headers["vary"]
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    "origin",
    [EVIL, "https://chat.example.evil.example", "http://chat.example", "https://chat.example:8443", "null"],
)
def test_another_one_is_not(shared: Served, origin: str) -> None:
    preflight = shared.http.options(CHAT, headers={"Origin": origin, **PREFLIGHT})
    assert preflight.status_code == 400
    headers = {**JSON, "Origin": origin, "Authorization": "Bearer one"}
    answer = shared.http.post(CHAT, content=BODY, headers=headers)
    assert answer.status_code == 403
    for response in (preflight, answer):
        assert "access-control-allow-origin" not in response.headers


def test_every_origin_may_ask_where_the_owner_says_so_and_a_key_is_asked_for(serve: Serve) -> None:
    served = serve(tiny_llm(), api_keys=("one",), origins=("*",))
    for key, status in (("one", 200), ("two", 401)):
        headers = {**JSON, "Origin": EVIL, "Authorization": f"Bearer {key}"}
        answer = served.http.post(CHAT, content=BODY, headers=headers)
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
