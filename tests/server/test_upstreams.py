"""A model of another machine answers as if it were here; and if that machine misbehaves, nobody else suffers."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, get_args

import anthropic
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.conftest import HELLO, Serve, Served, wait_until
from tests.server.misbehaving import Misbehaving, Refuse, Silence, event, misbehaving, said
from tests.server.test_encoders import encoder

from malmoi.core.errors import ConfigError
from malmoi.llm import Completion
from malmoi.llm.answer import Delta
from malmoi.llm.completion import FinishedBy
from malmoi.llm.prompt import ChatPrompt, Infill, Prompt
from malmoi.server.catalogue.measured import Measures
from malmoi.server.catalogue.price import Price
from malmoi.server.catalogue.upstream import Upstream, UpstreamSettings
from malmoi.server.catalogue.upstream.asked import UNSAID, asked
from malmoi.server.catalogue.upstream.breaker import Breaker
from malmoi.server.catalogue.upstream.events import BrokenAnswer, events
from malmoi.server.catalogue.upstream.told import Told
from malmoi.server.errors import ServerError
from malmoi.testing.models import tiny_llama, tiny_llm

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
KEY = "sk-a-key-of-ours"
TOOL = {"type": "function", "function": {"name": "날씨", "parameters": {"type": "object", "properties": {}}}}


# --- another Malmoi ---


@pytest.fixture(scope="module")
def far(start_server: Serve) -> Served:
    return start_server(tiny_llm(tiny_llama(max_positions=2048)), api_keys=(KEY,))


@pytest.fixture(scope="module")
def near(start_server: Serve, far: Served) -> Served:
    """A server whose only model is that of `far`."""
    settings = UpstreamSettings(url=f"{far.url}/v1", model="default", key=KEY)
    entry = Upstream("far", settings, price=Price(currency="KRW", input=1, output=2))
    return start_server({}, entries={"far": entry})


def same(near: Served, far: Served, path: str, **body: Any) -> dict[str, Any]:
    """What both answer, but for what differs by nature."""
    answers = [
        server.http.post(path, json=body, headers={"Authorization": f"Bearer {KEY}"})
        for server in (near, far)
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
    found, wanted = (answer.json() for answer in answers)
    for one in (found, wanted):
        for name in ("id", "created", "timings", "model"):
            del one[name]
        one["usage"].pop("prompt_tokens_details")
    assert found == wanted
    return dict(found)


GREEDY = {"temperature": 0, "max_tokens": 6}


@pytest.mark.parametrize(
    "more",
    [
        GREEDY,
        {"max_tokens": 6, "seed": 7},
        {"max_tokens": 6, "seed": 7, "temperature": 0.7, "top_p": 0.8},
        {"max_tokens": 6, "seed": 7, "top_k": 3, "min_p": 0.01, "repetition_penalty": 1.5},
        {"max_tokens": 5, "seed": 7, "n": 3},
        {**GREEDY, "stop": ["e", "_"]},
        {**GREEDY, "logit_bias": {"70": 100}},
        {**GREEDY, "logprobs": True, "top_logprobs": 2},
        {**GREEDY, "ignore_eos": True},
        {"max_tokens": 6, "frequency_penalty": 1.5, "presence_penalty": 0.5, "seed": 1},
        {"temperature": 0, "choice": ["그래", "아니"]},
        {
            "temperature": 0,
            "response_format": {"type": "json_schema", "json_schema": {"schema": {"const": "말"}}},
        },
    ],
    ids=str,
)
def test_a_chat_is_answered_as_it_is_there(near: Served, far: Served, more: dict[str, Any]) -> None:
    same(near, far, CHAT, messages=HELLO, **more)


@pytest.mark.parametrize(
    "more", [{}, {"logprobs": 2}, {"n": 2, "temperature": 1, "seed": 3}, {"prompt": [70, 71, 72]}], ids=str
)
def test_a_text_is_gone_on_with_as_it_is_there(near: Served, far: Served, more: dict[str, Any]) -> None:
    same(near, far, TEXT, **{"prompt": "말", **GREEDY, **more})


def test_a_stream_makes_the_same_answer(near: Served, far: Served) -> None:
    body = {"messages": HELLO, "max_tokens": 12, "temperature": 0, "ignore_eos": True}
    wanted = same(near, far, CHAT, **body)
    chunks = near.chunks(CHAT, **body, stream_options={"include_usage": True})
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
    assert text == wanted["choices"][0]["message"]["content"]
    assert chunks[-1]["usage"]["completion_tokens"] == 12
    assert {chunk["model"] for chunk in chunks} == {"far"}


def test_other_dialects_speak_through_it(near: Served) -> None:
    client = anthropic.Anthropic(base_url=near.url, api_key="none", max_retries=0)
    message = client.messages.create(model="far", messages=HELLO, max_tokens=3)  # type: ignore[arg-type]
    assert message.usage.output_tokens <= 3
    counted = client.messages.count_tokens(model="far", messages=HELLO)  # type: ignore[arg-type]
    assert counted.input_tokens == message.usage.input_tokens
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    shown = [{"role": "user", "content": [image]}]
    with pytest.raises(anthropic.BadRequestError, match="counted"):
        client.messages.count_tokens(model="far", messages=shown)  # type: ignore[arg-type]
    answer = near.post("/api/chat", model="far", messages=HELLO, stream=False, options={"num_predict": 3})
    assert answer.json()["done"]


def test_what_needs_its_insides_is_refused_by_name(near: Served) -> None:
    for path, body in (
        ("/tokenize", {"text": "말"}),
        ("/v1/chat/render", {"messages": HELLO}),
        ("/v1/embeddings", {"input": "말"}),
        (TEXT, {"prompt": "말", "echo": True, "logprobs": 0}),
    ):
        response = near.post(path, model="far", **body)
        assert response.status_code == 400, response.text
        assert "another machine" in response.json()["error"]["message"]


def test_who_goes_away_here_ends_the_request_there(near: Served, far: Served) -> None:
    body = {"messages": HELLO, "max_tokens": 1900, "ignore_eos": True, "stream": True}
    connection = near.request(CHAT, **body)
    wait_until(lambda: far.num_blocks_in_use > 0)
    connection.close()
    far.until_idle()
    wait_until(lambda: far.num_blocks_in_use == 0)


def test_it_is_described_and_counted_as_what_it_is(near: Served) -> None:
    near.post(CHAT, messages=HELLO, max_tokens=2)
    told = near.http.get("/v1/models/far").json()["malmoi"]
    assert (told["kind"], told["loaded"], told["state"]) == ("upstream", True, "closed")
    assert told["price"] == {"currency": "KRW", "input": 1, "output": 2}
    assert KEY not in near.http.get("/v1/models").text
    metrics = near.http.get("/metrics").text
    assert 'malmoi_upstream_state{model="far"} 0' in metrics
    line = next(line for line in metrics.splitlines() if line.startswith("malmoi_generated_tokens_total"))
    assert float(line.split()[-1]) > 0
    assert near.http.get("/ready").status_code == 200


@pytest.mark.parametrize("more", [{}, {"dimensions": 5}, {"encoding_format": "base64"}], ids=str)
def test_vectors_are_those_of_the_other_machine(serve: Serve, more: dict[str, Any]) -> None:
    models: Any = {"reads": encoder()}
    far = serve(models)
    settings = UpstreamSettings(url=f"{far.url}/v1/", model="reads")
    near = serve({}, entries={"far": Upstream("far", settings)})
    body = {"input": ["정말 재밌게 봤어요", "돈이 아깝다"], **more}
    found, wanted = (server.post("/v1/embeddings", **body).json() for server in (near, far))
    assert found["data"] == wanted["data"]
    assert found["usage"] == wanted["usage"]


# --- what is said in OpenAI's words ---


def test_what_no_request_says_is_left_to_the_other_machine() -> None:
    assert asked("말", UNSAID).body == {"prompt": "말"}
    assert asked("말", replace(UNSAID, temperature=1.0, top_p=1.0)).body == {
        "prompt": "말", "temperature": 1.0, "top_p": 1.0,
    }  # fmt: skip
    assert asked("말", replace(UNSAID, top_k=0)).extras == {"top_k": 0}


@pytest.mark.parametrize(
    ("prompt", "path", "body", "extras"),
    [
        ([70, 71], TEXT, {"prompt": [70, 71]}, {}),
        (Infill("앞", "뒤"), TEXT, {"prompt": "앞", "suffix": "뒤"}, {}),
        (ChatPrompt(messages=HELLO, thinks=False), CHAT, {"messages": HELLO, "reasoning_effort": "none"}, {}),
        (
            ChatPrompt(messages=HELLO, thinks=True, thought_budget=1024),
            CHAT,
            {"messages": HELLO, "reasoning_effort": "low"},
            {},
        ),
        (
            ChatPrompt(messages=HELLO, thinks=True, thought_budget=77),
            CHAT,
            {"messages": HELLO},
            {"chat_template_kwargs": {"enable_thinking": True}, "thinking_budget": 77},
        ),
        (
            ChatPrompt(messages=HELLO, tools=[TOOL], tool_choice="날씨", is_parallel=False),
            CHAT,
            {
                "messages": HELLO,
                "tools": [TOOL],
                "tool_choice": {"type": "function", "function": {"name": "날씨"}},
                "parallel_tool_calls": False,
            },
            {},
        ),
        (
            ChatPrompt(messages=HELLO, is_continued=True, beginning=[5]),
            CHAT,
            {"messages": HELLO},
            {"continue_final_message": True, "add_generation_prompt": False, "beginning": [5]},
        ),
        (
            [{"role": "user", "content": [{"type": "image", "image": "data:;base64,/9j/AA"}]}],
            CHAT,
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/AA"}}
                        ],
                    }
                ]
            },
            {},
        ),
        (
            [{"role": "user", "content": [{"type": "audio", "audio": "data:audio/wav;base64,UklG"}]}],
            CHAT,
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}
                        ],
                    }
                ]
            },
            {},
        ),
    ],
    ids=lambda one: "",
)
def test_each_kind_of_prompt_has_its_words(
    prompt: Prompt, path: str, body: dict[str, Any], extras: dict[str, Any]
) -> None:
    found = asked(prompt, UNSAID)
    assert (f"/v1{found.path}", found.body, found.extras) == (path, body, extras)


@pytest.mark.parametrize("name", ["penalty_scope", "prompt_logprobs"])
def test_what_cannot_be_said_is_refused_by_name(name: str) -> None:
    params = replace(UNSAID, **{name: {"penalty_scope": "all", "prompt_logprobs": True}[name]})
    with pytest.raises(ServerError, match=name) as caught:
        asked("말", params)
    assert caught.value.param == name


# --- somebody who misbehaves ---


@pytest.fixture
def bad() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


Make = Callable[..., Upstream]


@pytest.fixture
def make(bad: Misbehaving) -> Make:
    def made(**changes: Any) -> Upstream:
        breaker = changes.pop("breaker", None)
        patient: dict[str, Any] = {"connect_timeout": 30.0, "timeout": 30.0}
        settings = UpstreamSettings(**{"url": bad.url, "model": "theirs", "key": KEY, **patient, **changes})
        return Upstream("far", settings, first_pause=0.01, breaker=breaker)

    return made


def steps_of(upstream: Upstream, prompt: Prompt = HELLO, **params: Any) -> list[list[Delta] | Completion]:
    async def run() -> list[list[Delta] | Completion]:
        try:
            async with aclosing(upstream.answer(prompt, replace(UNSAID, **params))) as steps:
                return [step async for step in steps]
        finally:
            await upstream.close()

    return asyncio.run(run())


def completion_of(upstream: Upstream, prompt: Prompt = HELLO, **params: Any) -> Completion:
    last = steps_of(upstream, prompt, **params)[-1]
    assert isinstance(last, Completion)
    return last


def error_of(upstream: Upstream, **params: Any) -> ServerError:
    with pytest.raises(ServerError) as caught:
        steps_of(upstream, **params)
    assert KEY not in str(caught.value)
    return caught.value


def test_it_is_asked_with_its_name_and_its_key(bad: Misbehaving, make: Make) -> None:
    bad.script = [said("말", "모이")]
    found = completion_of(make())
    assert (found.text, found.finish_reason, found.tokens) == ("말모이", "stop", [])
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (5, 2)
    assert bad.keys == [f"Bearer {KEY}"]
    assert bad.asked[0]["model"] == "theirs"
    assert (bad.asked[0]["stream"], bad.asked[0]["stream_options"]) == (True, {"include_usage": True})


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_passes_is_tried_again(bad: Misbehaving, make: Make, status: int) -> None:
    bad.script = [Refuse(status), Refuse(status), said("말")]
    upstream = make()
    assert completion_of(upstream).text == "말"
    assert upstream.num_retries == 2
    bad.script = [Refuse(status)]
    error = error_of(make())
    assert error.status == status
    assert len(bad.asked) == 6


def test_a_connection_that_breaks_before_an_answer_is_tried_again(bad: Misbehaving, make: Make) -> None:
    bad.script = [None, said("말")]
    assert completion_of(make()).text == "말"
    bad.script = [None]
    assert error_of(make()).status == 502


def test_nobody_there_is_a_clear_error(make: Make) -> None:
    nobody = make(url="http://127.0.0.1:9/v1", retries=0)
    error = error_of(nobody)
    assert nobody._measures.endings == {"failed": 1}
    assert (error.status, error.code) == (502, "upstream_error")
    assert "cannot be reached" in str(error)
    assert "127.0.0.1" not in str(error)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_what_it_refuses_has_its_status_and_its_words_and_is_not_tried_again(
    bad: Misbehaving, make: Make, status: int
) -> None:
    bad.script = [Refuse(status, json.dumps({"error": {"message": f"no such thing, {KEY}"}}))]
    error = error_of(make())
    assert (error.status, error.code) == (status, "upstream_error")
    assert "'far' runs on another machine: it says: no such thing" in str(error)
    assert len(bad.asked) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_that_our_key_is_refused_is_no_fault_of_who_asks(bad: Misbehaving, make: Make, status: int) -> None:
    bad.script = [Refuse(status, json.dumps({"error": {"message": f"wrong key {KEY}"}}))]
    error = error_of(make())
    assert error.status == 502
    assert "key of this server" in str(error)


def test_a_broken_server_is_not_asked_twice(bad: Misbehaving, make: Make) -> None:
    bad.script = [Refuse(500, "<html>secret trace</html>")]
    error = error_of(make())
    assert (error.status, len(bad.asked)) == (502, 1)
    assert "secret" not in str(error)


def test_a_time_to_wait_is_kept_to_if_it_is_short_and_told_if_it_is_long(
    bad: Misbehaving, make: Make
) -> None:
    bad.script = [Refuse(429, headers={"Retry-After": "1"}), said("말")]
    begin = time.monotonic()
    assert completion_of(make()).text == "말"
    assert time.monotonic() - begin >= 1
    bad.script = [Refuse(429, headers={"Retry-After": "3600"})]
    error = error_of(make())
    assert (error.status, error.headers["Retry-After"], len(bad.asked)) == (429, "3600", 3)


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        ([event(content="말")], "cut off"),
        ([event(content="말"), None], "cut off"),
        ([event(content="말"), b"data: {not json\n\n"], "no JSON object"),
        ([b"data: [1]\n\n"], "no JSON object"),
        ([b"data: " + b"[" * 100_000 + b"\n\n"], "no JSON object"),
        ([b'data: {"choices": [{"index": 5, "delta": {}}]}\n\n'], "choice 5"),
        ([b'data: {"choices": [{"index": 0, "delta": {"content": 5}}]}\n\n'], "where a text should be"),
        (
            [b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]}\n\n'],
            "content_filter",
        ),
        ([event(content="말"), b'data: {"error": {"message": "out of memory"}}\n\n'], "out of memory"),
        ([b"data: \xff\xfe\n\n"], "not UTF-8"),
        ([b"data: " + b"x" * 5_000_000], "a line of more than"),
        ([event(tool_calls=[{"index": 0}])], "call of no function"),
        ([event(tool_calls=[{"index": 3, "function": {"name": "a"}}])], "the call 3"),
        ([b"<html>a page</html>"], "cut off"),
    ],
    ids=range(14),
)
def test_an_answer_that_is_none_is_an_error_that_says_why(
    bad: Misbehaving, make: Make, stream: Any, words: str
) -> None:
    bad.script = [stream]
    upstream = make(retries=2)
    error = error_of(upstream)
    assert (error.status, error.code) == (502, "upstream_error")
    assert words in str(error)
    assert len(bad.asked) == 1, "an answer that has begun is not asked for again"
    assert upstream._measures.endings["failed"] == 1


def test_a_machine_that_is_silent_too_long_is_given_up(bad: Misbehaving, make: Make) -> None:
    bad.script = [[event(content="말"), Silence(60.0)]]
    upstream = make(timeout=0.2)
    assert error_of(upstream).status == 504
    assert upstream._measures.endings["failed"] == 1
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        error = error_of(make(url=f"http://127.0.0.1:{port}/v1", timeout=0.1))
    assert (error.status, error.code) == (504, "upstream_error")


def test_text_comes_whole_however_it_is_cut(bad: Misbehaving, make: Make) -> None:
    stream = b"".join([b": hello\r\n\r\n", *said("한글은", " 말모이 👩‍👩‍👧.")])
    stream += b""
    for size in (1, 2, 3, 7):
        bad.script = [[stream[place : place + size] for place in range(0, len(stream), size)]]
        assert completion_of(make()).text == "한글은 말모이 👩‍👩‍👧."
    halves = rb'data: {"choices": [{"index": 0, "delta": {"content": "\ud83d"}}]}' + b"\n\n"
    others = rb'data: {"choices": [{"index": 0, "delta": {"content": "\ude00"}}]}' + b"\n\n"
    bad.script = [[halves, others, *said("!")]]
    assert completion_of(make()).text == "😀!"


def test_thoughts_and_calls_are_read(bad: Misbehaving, make: Make) -> None:
    def call(**more: Any) -> bytes:
        return event(tool_calls=[{"index": 0, **more}])

    stream = [
        event(role="assistant", content=None, reasoning_content="음"),
        event(reasoning="..."),
        call(id="call_1", type="function", function={"name": "날씨", "arguments": ""}),
        call(function={"arguments": '{"곳": '}),
        call(function={"arguments": '"서울"}'}),
        event(finish="tool_calls"),
        b"data: [DONE]\n\n",
    ]
    bad.script = [stream]
    steps = steps_of(make())
    found = steps[-1]
    assert isinstance(found, Completion)
    assert (found.thought, found.text, found.finish_reason) == ("음...", "", "tool_calls")
    [one] = found.tool_calls
    assert (one.id, one.name, one.arguments) == ("call_1", "날씨", '{"곳": "서울"}')
    calls = [call for step in steps[:-1] for delta in step for call in delta.calls]  # type: ignore[union-attr]
    assert [call.name for call in calls] == ["날씨", "", ""]
    assert "".join(call.arguments for call in calls) == one.arguments


def test_likelihoods_without_ids_are_told_without(bad: Misbehaving, make: Make) -> None:
    token = {"token": "말", "logprob": -0.5, "bytes": [235, 167, 144], "top_logprobs": []}
    choice = {
        "index": 0,
        "delta": {"content": "말"},
        "logprobs": {"content": [token]},
        "finish_reason": "stop",
    }
    bad.script = [[f"data: {json.dumps({'choices': [choice]})}\n\n".encode(), b"data: [DONE]\n\n"]]
    found = completion_of(make(), logprobs=True)
    assert found.logprobs is not None
    [one] = found.logprobs
    assert (one.token, one.bytes, one.logprob) == (-1, "말".encode(), -0.5)


WORDS = st.sampled_from(
    ["choices", "delta", "index", "text", "content", "tool_calls", "function", "name", "arguments", "id", "logprobs",
     "tokens", "token_logprobs", "top_logprobs", "token", "logprob", "bytes", "finish_reason", "stop", "error", "usage",
     "completion_tokens", "completion_tokens_details", "reasoning", "\ud83d", "probability"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 400) | st.floats() | WORDS,
    lambda one: st.lists(one, max_size=3) | st.dictionaries(WORDS, one, max_size=4),
    max_leaves=20,
)


@given(
    events=st.lists(
        st.fixed_dictionaries({"choices": st.lists(st.dictionaries(WORDS, JSON), max_size=2)}) | JSON
    )
)
def test_whatever_an_event_says_it_is_read_or_refused_as_a_broken_answer(events: list[Any]) -> None:
    told = Told(2, has_logprobs=True)
    try:
        for number, one in enumerate(events):
            told.read(json.dumps(one), seconds=number)
        told.completion(seconds=9.0)
    except BrokenAnswer:
        return


def test_what_only_some_understand_is_sent_where_that_is_known_and_else_refused(
    bad: Misbehaving, make: Make
) -> None:
    bad.script = [said("말")]
    error = error_of(make(), top_k=3)
    assert (error.status, error.param, bad.asked) == (400, "top_k", [])
    assert completion_of(make(accepts=("top_k",)), top_k=3).text == "말"
    assert bad.asked[0]["top_k"] == 3
    assert completion_of(make(accepts=("anything",)), min_p=0.1).text == "말"


def test_who_goes_away_is_noticed_there(bad: Misbehaving, make: Make) -> None:
    bad.script = [[event(content="말"), 30.0]]

    async def run() -> None:
        upstream = make()
        async with aclosing(upstream.answer(HELLO, UNSAID)) as steps:
            await anext(steps)
            await anext(steps)
        await upstream.close()
        assert upstream._measures.endings["cancelled"] == 1

    asyncio.run(run())
    assert bad.hung_up.wait(20)


def test_who_fails_again_and_again_is_left_alone_and_then_tried_once(bad: Misbehaving, make: Make) -> None:
    now = [0.0]
    breaker = Breaker(most_failures=3, window=60, pause=30, now=lambda: now[0])
    bad.script = [Refuse(500)]
    for _ in range(3):
        assert error_of(make(breaker=breaker)).status == 502
    error = error_of(make(breaker=breaker))
    assert (error.status, error.code, error.headers["Retry-After"]) == (503, "upstream_open", "30")
    assert len(bad.asked) == 3
    assert make(breaker=breaker).described()["state"] == "open"
    now[0] = 31.0
    bad.script = [said("말")]
    assert completion_of(make(breaker=breaker)).text == "말"
    assert breaker.state == "closed"


def test_that_a_request_was_wrong_opens_no_breaker(bad: Misbehaving, make: Make) -> None:
    breaker = Breaker(most_failures=2)
    bad.script = [Refuse(400)]
    for _ in range(4):
        assert error_of(make(breaker=breaker)).status == 400
    assert breaker.state == "closed"


def test_a_key_is_in_no_log(bad: Misbehaving, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bad.script = [Refuse(503, json.dumps({"error": f"your {KEY}"})), said("말")]
    completion_of(make())
    error_of(make(url="http://127.0.0.1:9/v1"))
    assert KEY not in caplog.text
    assert KEY not in repr(make().settings)


def test_a_flood_is_cut_off() -> None:
    async def flood() -> Any:
        while True:
            yield b"data: x\n\n"

    async def run() -> None:
        with pytest.raises(BrokenAnswer, match="more than 1000 bytes"):
            async for _ in events(flood(), max_bytes=1000):
                pass

    asyncio.run(run())


def test_an_error_of_it_is_told_in_the_dialect_of_who_asks(
    bad: Misbehaving, make: Make, serve: Serve
) -> None:
    bad.script = [Refuse(404, '{"error": {"message": "no model of that name"}}')]
    near = serve({}, entries={"far": make()})
    told = near.post(CHAT, messages=HELLO)
    assert told.status_code == 404
    assert "no model of that name" in told.json()["error"]["message"]
    assert near.post("/v1/messages", messages=HELLO, max_tokens=3).json()["type"] == "error"
    assert isinstance(near.post("/api/chat", model="far", messages=HELLO).json()["error"], str)
    bad.script = [[event(content="말")]]
    with near.http.stream("POST", CHAT, json={"messages": HELLO, "stream": True}) as response:
        assert response.status_code == 200
        assert "cut off before its end" in response.read().decode()


@pytest.mark.parametrize(
    "stream",
    [
        [event(content="말"), f'data: {{"error": {{"message": "wrong key {KEY}"}}}}\n\n'.encode()],
        [f"data: {'x' * 50}{KEY}\n\n".encode()],
        [event(content="말", finish=f"{'x' * 30}{KEY}")],
    ],
    ids=["an error", "no JSON", "an end"],
)
def test_a_key_in_a_stream_is_not_told_on(bad: Misbehaving, make: Make, stream: Any) -> None:
    bad.script = [stream]
    told = str(error_of(make()))
    assert "sk-" not in told
    assert "..." in told


def test_what_a_transport_says_of_a_key_is_in_no_log(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    error_of(make(key=f"{KEY}\n", retries=0))
    assert "LocalProtocolError" in caplog.text
    assert KEY not in caplog.text


def test_what_it_says_of_a_failure_is_not_in_the_log(
    bad: Misbehaving, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    bad.script = [Refuse(500, '{"error": {"message": "cannot say 비밀"}}')]
    error_of(make())
    assert "answers with 500" in caplog.text
    assert "비밀" not in caplog.text


@pytest.mark.parametrize("reason", ["content_filter", "abort", "error"])
def test_what_it_withholds_opens_no_breaker(bad: Misbehaving, make: Make, reason: str) -> None:
    """A stranger's question must not take the model from the others."""
    breaker = Breaker(most_failures=2)
    bad.script = [[event(content="말", finish=reason)]]
    for _ in range(4):
        error = error_of(make(breaker=breaker))
        assert (error.status, error.code) == (502, "upstream_error")
        assert reason in str(error)
    assert breaker.state == "closed"


@pytest.mark.parametrize(
    ("about", "is_remembered"),
    [
        (Refuse(200, "<html>a page</html>"), False),
        (Refuse(200, "{}"), False),
        (Refuse(401), False),
        (Refuse(403), False),
        (Refuse(500), False),
        (Refuse(404), True),
        (Refuse(405), True),
    ],
    ids=lambda one: f"{one.status} {one.body[:6]}" if isinstance(one, Refuse) else "",
)
def test_whoever_does_not_say_that_it_is_a_malmoi_is_none(
    bad: Misbehaving, make: Make, about: Refuse, is_remembered: bool
) -> None:
    bad.about, bad.script = about, [said("말")]
    upstream = make(breaker=Breaker(most_failures=1))
    error = error_of(upstream, top_k=3)
    assert (error.status, error.param, upstream.breaker.state) == (400, "top_k", "closed")
    bad.about = Refuse(200, '{"owned_by": "malmoi"}')
    if is_remembered:
        assert error_of(upstream, top_k=3).param == "top_k"
    else:
        assert completion_of(upstream, top_k=3).text == "말"


def test_connections_are_used_again(far: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="httpcore2.connection")
    upstream = Upstream("far", UpstreamSettings(url=f"{far.url}/v1", model="default", key=KEY))

    async def run() -> None:
        for _ in range(3):
            async with aclosing(upstream.answer("말", replace(UNSAID, max_tokens=2))) as steps:
                assert [step async for step in steps]
        await upstream.close()

    asyncio.run(run())
    opened = [one for one in caplog.records if "connect_tcp.started" in one.getMessage()]
    assert len(opened) == 1


@pytest.mark.parametrize("rest", [[30.0], [b"data: x\n\n"] * 40_000 + [30.0]], ids=["nothing", "a flood"])
def test_what_follows_the_end_is_not_waited_for(bad: Misbehaving, make: Make, rest: list[Any]) -> None:
    bad.script = [[*said("말"), *rest]]
    begin = time.monotonic()
    assert completion_of(make(timeout=60.0)).text == "말"
    assert time.monotonic() - begin < 15


def test_half_a_character_is_refused_as_a_model_here_refuses_it(bad: Misbehaving, make: Make) -> None:
    upstream = make(breaker=Breaker(most_failures=1))
    with pytest.raises(ServerError, match="half a character") as caught:
        steps_of(upstream, [{"role": "user", "content": "\ud83d"}])
    assert (caught.value.status, upstream.breaker.state, bad.asked) == (400, "closed", [])


def test_no_likelihoods_beside_the_chosen_tokens_is_a_number_too() -> None:
    assert asked("말", replace(UNSAID, logprobs=0)).body == {"prompt": "말", "logprobs": 0}
    found = asked(HELLO, replace(UNSAID, logprobs=0)).body
    assert (found["logprobs"], found["top_logprobs"]) == (True, 0)


def test_an_effort_without_a_budget_is_one_and_a_budget_is_refused_by_its_name(make: Make) -> None:
    thinks = ChatPrompt(messages=HELLO, thinks=True)
    assert asked(thinks, UNSAID).body["reasoning_effort"] == "xhigh"
    with pytest.raises(ServerError) as caught:
        steps_of(make(), replace(thinks, thought_budget=77))
    assert caught.value.param == "thinking_budget"


VECTOR = {"index": 0, "embedding": [0.5]}


@pytest.mark.parametrize(
    "data",
    [
        [],
        [VECTOR, VECTOR],
        [VECTOR | {"index": 1}],
        [VECTOR | {"embedding": [float("nan")]}],
        [VECTOR, {}],
        "x",
    ],
    ids=str,
)
def test_vectors_that_are_none_or_too_few_are_an_error_of_that_machine(
    bad: Misbehaving, make: Make, data: Any
) -> None:
    bad.script = [Refuse(200, json.dumps({"data": data, "usage": {"prompt_tokens": 1}}))]

    async def run() -> None:
        upstream = make()
        with pytest.raises(ServerError, match="what that sent are no") as caught:
            await upstream.vectors("말", dimensions=None)
        assert (caught.value.status, caught.value.code) == (502, "upstream_error")
        await upstream.close()

    asyncio.run(run())


@pytest.mark.parametrize("count", ["{}", '{"count": null}', '{"count": "x"}', '{"count": -1}'])
def test_a_count_that_is_none_is_an_error_of_that_machine(bad: Misbehaving, make: Make, count: str) -> None:
    bad.about, bad.script = Refuse(200, '{"owned_by": "malmoi"}'), [Refuse(200, count)]

    async def run() -> None:
        upstream = make()
        for prompt in ("말", HELLO):
            with pytest.raises(ServerError, match="no number of tokens") as caught:
                await upstream.num_tokens(prompt)
            assert caught.value.status == 502
        await upstream.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "url", ["http://host:abc/v1", "http://host:99999/v1", "http://[::1/v1", "http:///v1"]
)
def test_a_url_that_is_none_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ConfigError, match="no URL"):
        UpstreamSettings(url=url, model="m")


@pytest.mark.parametrize("url", ["ftp://me:secret@host/v1", "http://me:secret@host:abc/v1", "me:secret@host"])
def test_no_refusal_of_a_url_shows_a_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        UpstreamSettings(url=url, model="m")
    assert "secret" not in str(caught.value)


def test_that_all_connections_are_in_use_is_no_failure_of_that_machine(
    bad: Misbehaving, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("malmoi.server.catalogue.upstream.client.MAX_CONNECTIONS", 1)
    bad.script = [[event(content="말"), 30.0]]
    upstream = make(breaker=Breaker(most_failures=1))

    async def run() -> None:
        async with aclosing(upstream.answer(HELLO, UNSAID)) as steps:
            await anext(steps)
            upstream._client._client().timeout = httpx2.Timeout(30.0, pool=0.1)
            with pytest.raises(ServerError, match="in use") as caught:
                await anext(upstream.answer(HELLO, UNSAID))
            assert caught.value.status == 503
        await upstream.close()

    asyncio.run(run())
    assert upstream.breaker.state == "closed"


def test_an_event_that_adds_nothing_is_no_step() -> None:
    told = Told(1, has_logprobs=False)
    assert (
        told.read('{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}', seconds=0)
        is None
    )
    assert told.read('{"choices": [{"index": 0, "delta": {"content": "말"}}]}', seconds=0) == [
        Delta("말", [], None, "", [])
    ]


def test_each_way_to_end_is_counted() -> None:
    assert {*get_args(FinishedBy)} <= {*Measures.ENDINGS}
