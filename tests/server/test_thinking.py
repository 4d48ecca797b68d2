"""How much a model thinks, and what its answer begins with, as each dialect says it."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from tests.server.conftest import HELLO, Serve, Served
from tests.server.scripted import Picks, Scripted

from malmoi.engine import SamplingParams
from malmoi.llm.abilities import Abilities
from malmoi.llm.answer import Delta
from malmoi.llm.prompt import ChatPrompt, Infill
from malmoi.testing.models import ScriptedModel, tiny_llm
from malmoi.testing.tokenizer import ByteTokenizer

CHAT = "/v1/chat/completions"
DIALECTS: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HELLO},
    "/v1/messages": {"messages": HELLO, "max_tokens": 9},
    "/v1/responses": {"input": "안녕?"},
    "/api/chat": {"model": "default", "messages": HELLO, "stream": False},
}
THINK: dict[str, dict[str, Any]] = {
    CHAT: {"reasoning_effort": "medium"},
    "/v1/messages": {"thinking": {"type": "enabled", "budget_tokens": 4096}},
    "/v1/responses": {"reasoning": {"effort": "medium", "summary": "auto"}},
    "/api/chat": {"think": "medium"},
}
THINK_NOT: dict[str, dict[str, Any]] = {
    CHAT: {"reasoning_effort": "none"},
    "/v1/messages": {"thinking": {"type": "disabled"}},
    "/v1/responses": {"reasoning": {"effort": "none"}},
    "/api/chat": {"think": False},
}


def writer(thinking: Any) -> Scripted:
    return Scripted(Delta("네."), abilities=Abilities(thinking=thinking, tools=True, fills_gaps=True))


@pytest.fixture(scope="module")
def writers() -> dict[str, Scripted]:
    return {kind: writer(kind) for kind in ("switchable", "always", "never")}


@pytest.fixture(scope="module")
def served(start_server: Serve, writers: dict[str, Scripted]) -> Served:
    return start_server({}, entries={"default": writers["switchable"], **writers})


@pytest.mark.parametrize("path", DIALECTS)
def test_an_effort_is_a_budget_for_a_model_that_thinks(
    served: Served, writers: dict[str, Scripted], path: str
) -> None:
    for kind, thinks in (("switchable", True), ("always", None)):
        response = served.post(path, **{**DIALECTS[path], **THINK[path], "model": kind})
        assert response.status_code == 200, response.text
        asked = writers[kind].asked
        assert (asked.thinks, asked.thought_budget) == (thinks, 4096)


@pytest.mark.parametrize("path", DIALECTS)
def test_not_to_think_is_what_every_model_can_do(
    served: Served, writers: dict[str, Scripted], path: str
) -> None:
    wanted: dict[str, Any] = {"switchable": (False, None), "always": (None, 0), "never": (None, None)}
    for kind, told in wanted.items():
        response = served.post(path, **{**DIALECTS[path], **THINK_NOT[path], "model": kind})
        assert response.status_code == 200, response.text
        asked = writers[kind].asked
        assert (asked.thinks, asked.thought_budget) == told


@pytest.mark.parametrize("path", DIALECTS)
def test_a_model_that_never_thinks_is_not_asked_to(served: Served, path: str) -> None:
    response = served.post(path, **{**DIALECTS[path], **THINK[path], "model": "never"})
    assert response.status_code == 400
    assert next(iter(THINK[path])) in response.text


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, (None, None)),
        ({"thinking_budget": 64}, (None, 64)),
        ({"thinking_budget": 0}, (False, None)),
        ({"chat_template_kwargs": {"enable_thinking": False}}, (False, None)),
        ({"chat_template_kwargs": {"enable_thinking": True}}, (True, None)),
        ({"chat_template_kwargs": {"enable_thinking": True}, "thinking_budget": 64}, (True, 64)),
        ({"reasoning_effort": "high"}, (True, 16384)),
        ({"reasoning_effort": "xhigh"}, (True, None)),
    ],
    ids=str,
)
def test_a_chat_says_how_much_to_think(
    served: Served, writers: dict[str, Scripted], more: dict[str, Any], told: Any
) -> None:
    assert served.post(CHAT, messages=HELLO, **more).status_code == 200
    asked = writers["switchable"].asked
    assert (asked.thinks, asked.thought_budget) == told


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"thinking": {"type": "adaptive"}}, (True, None)),
        ({"output_config": {"effort": "low"}}, (True, 1024)),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, (True, 16384)),
    ],
    ids=str,
)
def test_a_message_says_how_much_to_think(
    served: Served, writers: dict[str, Scripted], more: dict[str, Any], told: Any
) -> None:
    assert served.post("/v1/messages", messages=HELLO, max_tokens=9, **more).status_code == 200
    asked = writers["switchable"].asked
    assert (asked.thinks, asked.thought_budget) == told


@pytest.mark.parametrize(
    "more",
    [
        {"reasoning_effort": "low", "thinking_budget": 64},
        {"chat_template_kwargs": {"enable_thinking": False}, "thinking_budget": 64},
        {"chat_template_kwargs": {"enable_thinking": True}, "thinking_budget": 0},
        {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "none"},
    ],
    ids=str,
)
def test_two_wishes_that_contradict_each_other_are_refused(served: Served, more: dict[str, Any]) -> None:
    assert served.post(CHAT, messages=HELLO, **more).json()["error"]["param"] in more


BEGUN = [*HELLO, {"role": "assistant", "content": "말모이는"}]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": [*HELLO, {**BEGUN[-1], "prefix": True}]}),
        (CHAT, {"messages": BEGUN, "continue_final_message": True}),
        (CHAT, {"messages": BEGUN, "continue_final_message": True, "add_generation_prompt": False}),
        ("/v1/messages", {"messages": BEGUN, "max_tokens": 9}),
        ("/api/chat", {"model": "default", "messages": BEGUN}),
    ],
    ids=["prefix", "continue", "no new turn", "anthropic", "ollama"],
)
def test_what_the_assistant_has_begun_is_gone_on_with(
    served: Served, writers: dict[str, Scripted], path: str, body: dict[str, Any]
) -> None:
    assert served.post(path, **body).status_code == 200
    asked = writers["switchable"].asked
    assert asked.is_continued
    assert list(asked.messages) == BEGUN


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": HELLO, "continue_final_message": True}, "continue_final_message"),
        ({"messages": [{**HELLO[0], "prefix": True}]}, "messages"),
        ({"messages": [{**BEGUN[-1], "prefix": True}, *HELLO]}, "messages"),
        ({"messages": BEGUN, "add_generation_prompt": False}, "add_generation_prompt"),
        (
            {"messages": BEGUN, "continue_final_message": True, "add_generation_prompt": True},
            "add_generation_prompt",
        ),
    ],
    ids=str,
)
def test_nothing_else_is_gone_on_with(served: Served, body: dict[str, Any], param: str) -> None:
    response = served.post(CHAT, **body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def answers(tiny: Served, path: str, **body: Any) -> str:
    answer = tiny.post(path, **body).json()
    match answer:
        case {"choices": [{"message": {"content": str(text)}}]}:
            return text
        case {"content": [{"text": str(text)}]} | {"message": {"content": str(text)}}:
            return text
    raise AssertionError(answer)


def test_an_answer_that_has_begun_goes_on_in_the_middle_of_a_syllable(serve: Serve) -> None:
    """What comes is the rest of the same text: a cut syllable is whole again in its first piece."""
    said, tokenizer = "한글은 말모이.", ByteTokenizer()
    ids = [*tokenizer.encode(said), tokenizer.special_tokens["<|im_end|>"]]
    served = serve(tiny_llm(ScriptedModel(ids, num_prompt=len(tiny_llm().builder.prompt_ids(HELLO)))))
    for num_begun in range(len(ids)):
        begun = len(bytes(said.encode()[:num_begun]).decode("utf-8", "ignore"))
        asked: dict[str, Any] = {"messages": HELLO, "temperature": 0, "beginning": ids[:num_begun]}
        assert answers(served, CHAT, **asked) == said[begun:]
        deltas = [one["choices"][0]["delta"].get("content", "") for one in served.chunks(CHAT, **asked)]
        assert "".join(deltas) == said[begun:]


def test_the_model_goes_on_as_if_it_had_said_that_itself(tiny: Served) -> None:
    said = [*HELLO, {"role": "assistant", "content": "말"}]
    params = SamplingParams(temperature=0, max_tokens=24)
    wanted = tiny.llm.chat(ChatPrompt(messages=said, is_continued=True), params).text
    for path, more in (
        (CHAT, {"continue_final_message": True, "max_tokens": 24, "temperature": 0}),
        ("/v1/messages", {"max_tokens": 24, "temperature": 0}),
        (
            "/api/chat",
            {"model": "default", "stream": False, "options": {"temperature": 0, "num_predict": 24}},
        ),
    ):
        assert answers(tiny, path, messages=said, **more) == wanted


def test_a_gap_is_asked_of_a_model_that_fills_gaps(
    served: Served, tiny: Served, writers: dict[str, Scripted]
) -> None:
    wanted = Infill("나는 ", " 간다.")
    for path, body in (
        ("/v1/completions", {"prompt": wanted.before}),
        ("/api/generate", {"model": "default", "prompt": wanted.before}),
    ):
        assert served.post(path, **body, suffix=wanted.after).status_code == 200
        assert writers["switchable"].prompts[-1] == wanted
        refused = tiny.post(path, **body, suffix=wanted.after)
        assert refused.status_code == 400, refused.text
    for more in ({"prompt": [1, 2]}, {"prompt": "a", "echo": True}):
        error = served.post("/v1/completions", **more, suffix="b").json()["error"]
        assert error["param"] == "suffix"


@pytest.fixture(scope="module")
def routed(start_server: Serve) -> Served:
    entries = {"auto": Picks("작은", "짧은 질문: 25 글자"), "작은": Scripted(Delta("네"), Delta("."))}
    return start_server({}, entries=entries)


def first_and_last(served: Served, path: str, body: dict[str, Any]) -> Sequence[dict[str, Any]]:
    with served.http.stream("POST", path, json={**body, "stream": True}) as response:
        assert response.headers["x-malmoi-model"] == "%EC%9E%91%EC%9D%80"
        assert response.headers["x-malmoi-why"].endswith(": 25 %EA%B8%80%EC%9E%90")
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if "{" in line]
    return [json.loads(line) for line in (lines[0], lines[-1])]


def test_who_was_chosen_and_why_is_in_the_answer_and_its_headers(routed: Served) -> None:
    note = {"asked": "auto", "why": "짧은 질문: 25 글자"}
    for path, body in {**DIALECTS, "/v1/completions": {"prompt": "말"}}.items():
        asked = {**body, "model": "auto"}
        response = routed.post(path, **asked)
        assert response.status_code == 200, response.text
        assert (response.json()["model"], response.json()["malmoi"]) == ("작은", note)
        assert response.headers["x-malmoi-model"] == "%EC%9E%91%EC%9D%80"
        told = first_and_last(routed, path, asked)
        assert any("malmoi" in one or "malmoi" in one.get("message", one.get("response", {})) for one in told)
    named = routed.post(CHAT, messages=HELLO, model="작은")
    assert "malmoi" not in named.json()
    assert "x-malmoi-why" not in named.headers
    assert named.headers["x-malmoi-model"] == "%EC%9E%91%EC%9D%80"
    for one in first_and_last(routed, CHAT, {"messages": HELLO, "model": "auto"}):
        assert one["malmoi"] == note
