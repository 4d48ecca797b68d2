"""A model that is one of two others: who answers, and why, is in the answer, at every endpoint that writes text."""

from pathlib import Path
from typing import Any

import pytest
from tests.router.conftest import PER_CALL, judged_questions
from tests.server.conftest import HELLO, Serve, Served

from malmoi.core.errors import CheckpointError, ConfigError, RequestError, TemplateError
from malmoi.llm import LLM
from malmoi.llm.prompt import ChatPrompt, Infill
from malmoi.router.rules import Rule
from malmoi.router.training import Dial, train_router
from malmoi.server.catalogue.routed import Routed, RoutedSettings, question_in
from malmoi.testing.models import ScriptedModel, tiny_llm
from malmoi.testing.tokenizer import ByteTokenizer

EASY, HARD = "안녕? 반가워 4321호", "17 더하기 25를 계산해 줘"
RULES = (
    Rule(name="code", use="big", languages=("code",)),
    Rule(name="short", use="small", max_characters=3),
    Rule(name="tools", use="big", has_tools=True),
)


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("router")
    dial = Dial(kind="strong-share", value=0.5)
    train_router(judged_questions(600), dial=dial, cost=PER_CALL).save(directory)
    return str(directory)


@pytest.fixture(scope="module")
def routed(router: str) -> Routed:
    return Routed(RoutedSettings(weak="small", strong="big", router=router, rules=RULES))


def says(text: str, question: str) -> LLM:
    tokenizer = ByteTokenizer()
    num_prompt = len(tiny_llm().builder.prompt_ids([{"role": "user", "content": question}]))
    end = tokenizer.special_tokens["<|im_end|>"]
    return tiny_llm(ScriptedModel([*tokenizer.encode(text), end], num_prompt=num_prompt))


def served(serve: Serve, routed: Routed, question: str) -> Served:
    models = {"small": says("작은", question), "big": says("큰", question)}
    return serve(models, entries={"small": "small", "big": "big", "auto": routed})


@pytest.mark.parametrize(
    ("question", "name", "text", "why"),
    [
        (EASY, "small", "작은", "easy: 0."),
        (HARD, "big", "큰", "hard: 0."),
        ("x[0]={};", "big", "큰", 'rule "code"'),
    ],
)
def test_the_answer_is_of_the_model_that_was_chosen_and_says_so(
    serve: Serve, routed: Routed, question: str, name: str, text: str, why: str
) -> None:
    server = served(serve, routed, question)
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": question}],
        "model": "auto",
        "temperature": 0,
    }
    response = server.post("/v1/chat/completions", **body)
    assert response.status_code == 200, response.text
    said = response.json()
    assert said["choices"][0]["message"]["content"] == text
    assert said["model"] == name
    assert said["malmoi"]["asked"] == "auto"
    assert said["malmoi"]["why"].startswith(why)
    assert response.headers["x-malmoi-model"] == name
    for chunk in server.chunks("/v1/chat/completions", **body)[:1]:
        assert (chunk["model"], chunk["malmoi"]["why"]) == (name, said["malmoi"]["why"])


def test_the_model_that_is_named_answers_whatever_the_router_would_say(serve: Serve, routed: Routed) -> None:
    server = served(serve, routed, HARD)
    asked = [{"role": "user", "content": HARD}]
    said = server.post("/v1/chat/completions", messages=asked, model="small", temperature=0).json()
    assert (said["model"], said["choices"][0]["message"]["content"]) == ("small", "작은")
    assert "malmoi" not in said


def test_the_list_of_models_tells_which_ones_it_chooses(serve: Serve, routed: Routed) -> None:
    told = served(serve, routed, EASY).http.get("/v1/models/auto").json()
    assert (told["id"], told["malmoi"]["kind"]) == ("auto", "routed")
    assert told["malmoi"]["chooses"] == ["big", "small"]


def test_who_is_chosen_is_told_with_numbers(routed: Routed) -> None:
    name, why = routed.choose(EASY)
    assert name == "small"
    decision = routed.router.decide(question_in(EASY)) if routed.router else None
    assert decision is not None
    assert why == (f"easy: {decision.probability:.2f} that small is as good, {decision.needed:.2f} is enough")
    assert routed.choose(HARD).why.endswith("is needed")


def test_a_rule_goes_before_the_router_and_the_first_before_the_others(routed: Routed) -> None:
    assert routed.choose("12?") == ("small", 'rule "short": it has 3 characters')
    tool = {"type": "function", "function": {"name": "f"}}
    asked = ChatPrompt(messages=[{"role": "user", "content": EASY}], tools=[tool])
    assert routed.choose(asked) == ("big", 'rule "tools": it has tools')


def test_a_rule_may_ask_for_a_header_of_the_request(serve: Serve) -> None:
    rules = (Rule(name="legal", use="big", headers={"X-Team": "legal"}),)
    server = served(serve, Routed(RoutedSettings(weak="big", strong="small", rules=rules)), EASY)
    body = {"messages": [{"role": "user", "content": EASY}], "model": "auto", "temperature": 0}
    for headers, name in (({"x-team": "legal"}, "big"), ({"x-team": "sales"}, "small"), ({}, "small")):
        response = server.http.post("/v1/chat/completions", json=body, headers=headers)
        assert response.headers["x-malmoi-model"] == name


def test_without_a_router_the_strong_one_answers_what_no_rule_decides() -> None:
    routed = Routed(RoutedSettings(weak="small", strong="big", rules=RULES))
    assert routed.choose(HARD) == ("big", "no rule holds")


def test_every_prompt_with_a_text_has_a_question(routed: Routed) -> None:
    text = question_in("안녕?").text
    assert text == question_in(HELLO).text == question_in(ChatPrompt(messages=HELLO)).text
    assert question_in(Infill("def f(", "):")).text == "def f(" + "):"


def test_ids_and_no_conversation_are_refused(routed: Routed) -> None:
    with pytest.raises(RequestError, match="Name the model whose ids they are"):
        routed.choose([1, 2, 3])
    with pytest.raises(TemplateError, match="the conversation is empty"):
        routed.choose([])


def test_ids_for_a_routed_model_are_a_clear_error_over_http(serve: Serve, routed: Routed) -> None:
    server = served(serve, routed, EASY)
    response = server.post("/v1/completions", prompt=[1, 2, 3], model="auto")
    assert response.status_code == 400
    assert "Name the model" in response.json()["error"]["message"]


def test_settings_that_choose_nothing_are_refused(router: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Name two models"):
        RoutedSettings(weak="one", strong="one", router=router)
    with pytest.raises(ConfigError, match="neither a router nor a rule"):
        RoutedSettings(weak="one", strong="two")
    with pytest.raises(CheckpointError, match=r"router\.json"):
        Routed(RoutedSettings(weak="one", strong="two", router=str(tmp_path)))
