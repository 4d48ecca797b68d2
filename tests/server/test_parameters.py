"""Every parameter does something, or is an error that names it: what nobody knows is not passed over in silence."""

import json
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.conftest import HELLO, Served

from malmoi.server.openai.chat_bodies import ChatBody
from malmoi.server.openai.completion_bodies import CompletionBody

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
WRONG: dict[str, list[Any]] = {
    "n": [0, -1, 1.5, "2", True, 10**6, [1]],
    "max_tokens": [0, -1, "5", 2.5, 10**30],
    "min_tokens": [-1, "5", 10**30],
    "temperature": [-1, "0", 1e9, [], True],
    "top_p": [-0.1, 1.5, "1"],
    "top_k": [-1, 0.5, 10**30],
    "min_p": [2, {}],
    "typical_p": [0, 2],
    "seed": [-1, 1.5, "1", 2**64],
    "stop": ["", [""], [1], 3, {"a": 1}],
    "frequency_penalty": [3, -3, "1"],
    "presence_penalty": [3, -3, "1"],
    "repetition_penalty": [0, -1, "1"],
    "logit_bias": [{"x": 1}, {"1": 500}, {"1": "a"}, [], "1", {"-1": 1}, {"9" * 5000: 1}],
    "stream": ["yes", 1, []],
    "stream_options": [{"include_usage": True}, {"include_usage": 1}, {"what": 1}, [], 1],
    "ignore_eos": ["yes", 1],
    "regex": [1, "("],
    "grammar": [1],
    "choice": ["a", [1], {}],
    "script_lock": ["hangul", ["klingon"], [1]],
    "latin_share": [0.5, 2, "a"],
    "beam_width": [0, "2"],
    "early_stopping": ["soon"],
    "priority": [-1, 0.5, "1", 10**30],
    "cache_salt": [1, []],
    "stop_token_ids": [[0]],
    "model": [1, []],
}


def tool(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


F = tool("f")
WRONG_IN_CHATS: dict[str, list[Any]] = {
    "messages": [1, "안녕", {}, [1], [["user", "안녕"]]],
    "logprobs": [1, "true"],
    "top_logprobs": [3, -1, "3"],
    "max_completion_tokens": ["5", 0],
    "response_format": [{"type": "xml"}, {"type": "json_schema"}, {}, "json", {"type": "text", "more": 1}],
    "tools": [{}, [{"type": "custom"}], [{"type": "function", "function": {}}], [F, F], [tool("auto")]],
    "tool_choice": ["required", "any", {"type": "function", "function": {"name": "g"}}, {"type": "auto"}],
    "functions": [{}, [{}], [{"name": "f"}, {"name": "f"}]],
    "function_call": [{"name": "f"}, "required"],
    "parallel_tool_calls": ["no"],
    "reasoning_effort": ["low", "much"],
    "thinking_budget": [-1, 64, "64"],
    "chat_template_kwargs": [{"enable_thinking": True}, {"tone": "calm"}, [1]],
    "continue_final_message": [True, "yes"],
    "add_generation_prompt": [False],
    "beginning": ["말", ["a"], [1.5]],
    "modalities": [["audio"]],
    "metadata": [{"a": 1}],
    "store": [True],
    "service_tier": ["flex"],
    "no_such_thing": [1, "a", {}],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n in WRONG for v in WRONG[n]], ids=str)
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_a_wrong_value_is_refused_by_name(tiny: Served, path: str, name: str, value: Any) -> None:
    asked: dict[str, Any] = {"messages": HELLO} if path == CHAT else {"prompt": "말"}
    refused(tiny, path, name, {**asked, name: value})


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n in WRONG_IN_CHATS for v in WRONG_IN_CHATS[n]], ids=str
)
def test_and_so_is_what_only_chats_have(tiny: Served, name: str, value: Any) -> None:
    refused(tiny, CHAT, name, {"messages": HELLO, name: value})


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"content": "네", "refusal": "아니요"}, "refusal"),
        ({"function_call": {"name": "f", "arguments": "{}"}, "tool_calls": [1]}, "function_call"),
    ],
    ids=["refusal", "call"],
)
def test_of_two_things_that_are_one_neither_is_passed_over(tiny: Served, said: Any, word: str) -> None:
    response = tiny.post(CHAT, messages=[*HELLO, {"role": "assistant", **said}, *HELLO], max_tokens=1)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "messages")
    assert f"both {'content' if word == 'refusal' else 'tool_calls'} and {word}" in response.text


def refused(served: Served, path: str, name: str, body: dict[str, Any]) -> None:
    response = served.post(path, **body)
    error = response.json()["error"]
    assert response.status_code == 400, error
    assert error["type"] == "invalid_request_error"
    assert name in error["message"] or name == "messages"
    assert (error["param"] or name).split(".")[0] == name, error


def test_what_a_body_cannot_do_without_is_asked_for(tiny: Served) -> None:
    for path, name in ((CHAT, "messages"), (TEXT, "prompt")):
        error = tiny.post(path).json()["error"]
        assert (error["param"], error["message"]) == (name, f"'{name}' is missing. Give it.")


def test_null_is_as_if_it_were_not_there(tiny: Served) -> None:
    for path, model, asked in (
        (CHAT, ChatBody, {"messages": HELLO}),
        (TEXT, CompletionBody, {"prompt": "말"}),
    ):
        nulls = dict.fromkeys([*model.model_fields, *model.REFUSED])
        with_nulls = tiny.post(path, **{**nulls, **asked, "seed": 5, "max_tokens": 4})
        without = tiny.post(path, **asked, seed=5, max_tokens=4)
        assert with_nulls.status_code == 200, with_nulls.text
        assert with_nulls.json()["choices"] == without.json()["choices"]


EFFECTS: dict[str, Any] = {
    "max_tokens": 3,
    "temperature": 0,
    "top_p": 0.1,
    "top_k": 1,
    "min_p": 0.9,
    "typical_p": 0.05,
    "seed": 12345,
    "stop": "e",
    "frequency_penalty": 2,
    "presence_penalty": 2,
    "repetition_penalty": 50,
    "logit_bias": {str(token): -100 for token in range(3, 120)},
    "regex": "[가-힣]{5}",
    "grammar": 'start: "네" | "아니요"',
    "choice": ["하나", "둘"],
    "script_lock": ["hangul"],
    "n": 2,
}


@pytest.mark.parametrize("name", EFFECTS)
def test_what_a_parameter_says_shows_in_the_answer(tiny: Served, name: str) -> None:
    asked = {"prompt": "말모이", "seed": 2, "max_tokens": 40}
    stop = tiny.post(TEXT, **asked).json()["choices"][0]["text"][5]
    value = stop if name == "stop" else EFFECTS[name]
    plain, changed = (tiny.post(TEXT, **one).json() for one in (asked, {**asked, name: value}))
    assert plain["choices"] != changed["choices"], changed


def test_fewest_tokens_and_an_end_that_is_passed_over_make_an_answer_longer(tiny: Served) -> None:
    end = {"prompt": "말", "temperature": 0, "logit_bias": {"0": 100}}
    lengths = [
        tiny.post(TEXT, **end, **more).json()["usage"]["completion_tokens"]
        for more in ({}, {"min_tokens": 4}, {"ignore_eos": True, "max_tokens": 9})
    ]
    assert lengths == [1, 5, 9]


@pytest.mark.parametrize(
    ("path", "asked"),
    [(CHAT, {"messages": [{"role": "user", "content": "말" * 40}]}), (TEXT, {"prompt": "말" * 40})],
)
def test_what_was_computed_is_found_by_those_of_the_same_salt_only(
    tiny: Served, path: str, asked: dict[str, Any]
) -> None:
    def cached(salt: str) -> int:
        used = tiny.post(path, **asked, max_tokens=1, cache_salt=salt).json()["usage"]
        return int(used["prompt_tokens_details"]["cached_tokens"])

    assert [cached(salt) > 0 for salt in ("가", "가", "나", "나", "가")] == [False, True, False, True, True]


def test_a_priority_comes_to_the_engine(tiny: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    check = tiny.llm.engine.check
    monkeypatch.setattr(tiny.llm.engine, "check", lambda asked: (seen.append(asked.priority), check(asked)))
    for path, asked in ((CHAT, {"messages": HELLO}), (TEXT, {"prompt": "말"})):
        for priority in (0, 3):
            assert tiny.post(path, **asked, priority=priority, max_tokens=1).status_code == 200
    assert [priority for priority, _ in groupby(seen)] == [0, 3, 0, 3]


def test_half_a_character_is_a_salt_like_any_other(tiny: Served) -> None:
    content = json.dumps({"messages": HELLO, "cache_salt": "\ud800", "max_tokens": 1})
    response = tiny.http.post(CHAT, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == 200, response.text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = sorted({*ChatBody.model_fields, *CompletionBody.model_fields, *ChatBody.REFUSED})


@settings(max_examples=60)
@given(
    body=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), JSON, max_size=5),
    is_chat=st.booleans(),
)
def test_no_body_is_an_error_of_the_server(tiny: Served, body: dict[str, Any], is_chat: bool) -> None:
    good: dict[str, Any] = {"messages": HELLO} if is_chat else {"prompt": "말"}
    content = json.dumps({"max_tokens": 2, **good, **body})  # NaN and halves of characters, too
    response = tiny.http.post(
        CHAT if is_chat else TEXT, content=content, headers={"Content-Type": "application/json"}
    )
    assert response.status_code in (200, 400, 404), response.text
    if response.status_code != 200:
        assert response.json()["error"]["message"].endswith((".", "?"))
