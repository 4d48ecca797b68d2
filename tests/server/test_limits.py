"""How much one may ask for: how often, how slowly, and what a refusal looks like to whoever reads it."""

import asyncio
import json
import random
import time
from typing import Any

import httpx
import pytest
from tests.server.conftest import HELLO, Serve, Served

from malmoi.server.trust import limits
from malmoi.server.trust.access import CALLER
from malmoi.server.trust.limits import LimitRate
from malmoi.testing.models import tiny_llm

CHAT = "/v1/chat/completions"
HEADERS = ("limit", "remaining", "reset")


class Clock:
    """A time that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Asked:
    """A layer of `rate` around nothing, and what it answers."""

    def __init__(self, rate: int) -> None:
        self.clock = Clock()
        self.layer = LimitRate(self._nothing, rate, self.clock)

    async def _nothing(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    def ask(
        self, address: str = "192.0.2.1", *, method: str = "POST", **scope: Any
    ) -> tuple[int, dict[str, str]]:
        """The status and the headers of an answer to `address`."""
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": CHAT,
            "headers": [],
            "client": (address, 1),
        } | scope
        asyncio.run(self.layer(scope, self._nothing, send))
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], headers


# --- how often ---


@pytest.mark.parametrize("rate", [1, 7, 60, 1000])
def test_requests_are_admitted_as_a_bucket_of_tokens_says(rate: int) -> None:
    drawn, asked = random.Random(rate), Asked(rate)
    tokens, last = float(rate), asked.clock.now
    num_refused = 0
    for _ in range(300):
        asked.clock.now += drawn.choice([0.0, 0.0, drawn.random() * 120 / rate])
        tokens, last = min(rate, tokens + (asked.clock.now - last) * rate / 60), asked.clock.now
        if 0 < abs(tokens - 1) < 1e-3:
            continue
        is_admitted = tokens >= 1
        tokens -= is_admitted
        num_refused += not is_admitted
        status, headers = asked.ask()
        assert status == (200 if is_admitted else 429)
        assert headers["x-ratelimit-limit-requests"] == str(rate)
        assert abs(int(headers["x-ratelimit-remaining-requests"]) - tokens) < 1 + 1e-3
        reset = float(headers["x-ratelimit-reset-requests"].removesuffix("s"))
        assert reset == pytest.approx((rate - tokens) * 60 / rate, abs=0.002)
    assert num_refused or rate == 1000


@pytest.mark.parametrize("rate", [1, 7, 60])
def test_whoever_waits_as_long_as_told_is_let_in_and_not_a_second_before(rate: int) -> None:
    asked = Asked(rate)
    assert [asked.ask()[0] for _ in range(rate)] == [200] * rate
    status, headers = asked.ask()
    assert status == 429
    wait = int(headers["retry-after"])
    assert headers["x-ratelimit-remaining-requests"] == "0"
    asked.clock.now += wait - 1
    assert asked.ask()[0] == (429 if wait - 1 < 60 / rate - 1e-6 else 200)
    asked.clock.now += 1
    assert asked.ask()[0] == 200


def test_a_refusal_takes_no_token_so_trying_again_does_not_make_it_worse() -> None:
    asked = Asked(2)
    assert [asked.ask()[0] for _ in range(50)] == [200] * 2 + [429] * 48
    asked.clock.now += 30
    assert [asked.ask()[0] for _ in range(2)] == [200, 429]


def test_each_key_and_each_address_has_a_bucket_of_its_own() -> None:
    asked = Asked(1)
    callers: list[tuple[str, dict[str, Any]]] = [
        ("192.0.2.1", {}),
        ("192.0.2.2", {}),
        ("2001:db8:0:1::1", {}),
        ("2001:db8:0:2::1", {}),
        ("192.0.2.1", {CALLER: b"one"}),
        ("192.0.2.1", {CALLER: b"two"}),
    ]
    for wanted in (200, 429):
        assert [asked.ask(address, **scope)[0] for address, scope in callers] == [wanted] * len(callers)
    # Of the same key from elsewhere, and of a neighbour whose address the same caller may take.
    assert asked.ask("192.0.2.9", **{CALLER: b"one"})[0] == 429
    assert asked.ask("2001:db8:0:1::abcd")[0] == 429
    # Of no address at all, as a test or a proxy says it.
    assert [asked.ask(client=None)[0] for _ in range(2)] == [200, 429]


def test_what_only_looks_costs_nothing() -> None:
    asked = Asked(1)
    for method in ("GET", "HEAD", "OPTIONS"):
        status, headers = asked.ask(method=method)
        assert (status, headers) == (200, {})
    assert asked.ask()[0] == 200


def test_however_many_addresses_come_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CALLERS", 10)
    asked = Asked(1)
    for number in range(100):
        asked.ask(f"10.0.{number}.1")
        assert asked.ask("192.0.2.1")[0] == (200 if number == 0 else 429)  # who comes again is not forgotten
    assert len(asked.layer._full_at) == 10


def test_over_http_each_key_has_a_rate_which_the_openai_client_reads(serve: Serve) -> None:
    import openai

    served = serve(tiny_llm(), api_keys=("one", "two"), rate=2)
    for key in ("one", "two"):
        client = openai.OpenAI(base_url=f"{served.url}/v1", api_key=key, max_retries=0)
        for left in ("1", "0"):
            raw = client.chat.completions.with_raw_response.create(
                model="default",
                messages=HELLO,  # type: ignore[arg-type]
                max_tokens=1,
            )
            assert raw.headers["x-ratelimit-remaining-requests"] == left
        with pytest.raises(openai.RateLimitError, match="2 requests a minute") as caught:
            client.chat.completions.create(model="default", messages=HELLO)  # type: ignore[arg-type]
        assert 0 < int(caught.value.response.headers["retry-after"]) <= 30
        assert [model.id for model in client.models.list()] == ["default"]
        client.close()


def test_behind_a_proxy_of_this_machine_each_client_has_a_rate_of_its_own(serve: Serve) -> None:
    served = serve(tiny_llm(), rate=1)
    for wanted in (200, 429):
        for client in ("198.51.100.1", "198.51.100.2"):
            headers = {"X-Forwarded-For": client}
            response = served.http.post(CHAT, json={"messages": HELLO, "max_tokens": 1}, headers=headers)
            assert response.status_code == wanted


# --- how slowly ---


def test_a_byte_now_and_then_does_not_hold_a_place(serve: Serve) -> None:
    served = serve(tiny_llm(), max_pause=2, max_requests=1)
    begin, answer = time.monotonic(), b""
    with served.send(CHAT, b"{", Content_Length="10000") as connection:
        connection.settimeout(0.05)
        while not answer.endswith(b"}") and time.monotonic() - begin < 30:
            try:
                connection.sendall(b" ")
                answer += connection.recv(4096)
            except TimeoutError:
                continue
    assert time.monotonic() - begin > 1.9
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()
    assert b"Send it again, faster" in answer
    assert served.post(CHAT, messages=HELLO, max_tokens=1).status_code == 200


def test_a_large_body_at_a_fair_pace_is_waited_for_longer_than_a_pause(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MIN_BYTES_PER_SECOND", 500)
    served = serve(tiny_llm(), max_pause=0.5)
    body = json.dumps({"messages": HELLO, "max_tokens": 1}).encode().ljust(20_000)
    with served.send(CHAT, body[:10_000], Content_Length=str(len(body))) as connection:
        time.sleep(0.8)  # longer than a pause, and much shorter than the 20 s that 10,000 bytes allow besides
        connection.sendall(body[10_000:])
        assert connection.recv(12) == b"HTTP/1.1 200"


# --- what a refusal looks like ---

FORMS = {
    CHAT: lambda body: body["error"]["message"],
    "/v1/messages": lambda body: body["error"]["message"] if body["type"] == "error" else None,
    "/v1/messages/count_tokens": lambda body: body["error"]["message"] if body["type"] == "error" else None,
    "/api/chat": lambda body: body["error"],
    "/api/tags": lambda body: body["error"],
    "/api/no/such": lambda body: body["error"],
}
"""The message of an error, in the form that the clients of a path read."""


@pytest.mark.parametrize("path", FORMS)
def test_whatever_refuses_says_it_in_the_form_of_the_path(serve: Serve, path: str) -> None:
    key = {"Authorization": "Bearer one"}
    served = serve(
        tiny_llm(), api_keys=("one",), hosts=("localhost", "127.0.0.1"), rate=1, max_body_bytes=1000
    )

    def refused(status: int, **options: Any) -> httpx.Response:
        response = served.http.post(path, **options)
        assert response.status_code == status, response.text
        message = FORMS[path](response.json())
        assert isinstance(message, str)
        assert message.endswith(".")
        return response

    refused(401, json={})
    refused(421, json={}, headers={**key, "Host": "evil.example"})
    refused(403, json={}, headers={**key, "Origin": "https://evil.example"})
    response = refused(413, content=b" " * 2000, headers=key)
    assert response.headers["x-ratelimit-remaining-requests"] == "0"
    assert int(refused(429, json={}, headers=key).headers["retry-after"]) > 0


def test_anthropics_client_knows_a_refusal_for_what_it_is(locked: Served) -> None:
    import anthropic

    client = anthropic.Anthropic(base_url=locked.url, api_key="wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError, match="a key is missing or wrong"):
        client.messages.create(model="default", max_tokens=1, messages=[{"role": "user", "content": "안녕"}])
    client.close()


@pytest.fixture(scope="module")
def locked(start_server: Serve) -> Served:
    return start_server(tiny_llm(), api_keys=("one",))
