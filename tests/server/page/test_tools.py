"""Tools, forms and several answers: what is asked beyond a text, and what becomes of it."""

import json
from typing import Any

import pytest

from .browser import Tab
from .reader import ANSWER, answered, ask, field, open_settings, row, until_count, until_shown
from .stand_in import StandIn, chunk

pytestmark = pytest.mark.slow

WEATHER = {
    "type": "function",
    "function": {
        "name": "날씨", "parameters": {"type": "object", "properties": {"도시": {"type": "string"}}},
    },
}  # fmt: skip
TOOL = {"type": "function", "function": {**WEATHER["function"], "name": "weather"}}  # type: ignore[dict-item]


def call(place: int, arguments: str, **first: Any) -> dict[str, Any]:
    """A piece of a call; the first one has its id and name."""
    named = {"id": first["id"], "type": "function"} if first else {}
    function = {"name": first["name"]} if first else {}
    return chunk(tool_calls=[{"index": place, **named, "function": {**function, "arguments": arguments}}])


def test_a_call_is_a_card_and_its_result_goes_on(tab: Tab, server: StandIn) -> None:
    server.script = [
        [
            "볼게요.",
            call(0, '{"도시"', id="call_1", name="weather"),
            call(0, ': "서울"}'),
            chunk(finish="tool_calls"),
        ],
        ["맑습니다."],
    ]
    open_settings(tab)
    field(tab, "tools").fill(json.dumps([TOOL], ensure_ascii=False))
    tab.page.keyboard.press("Escape")
    ask(tab, "서울 날씨는?")
    assert answered(tab) == "볼게요."
    assert server.asked[0]["tools"] == [TOOL]
    assert tab.page.inner_text(".call h3") == "도구 부르기: weather"
    assert tab.page.inner_text(".call pre") == '{\n  "도시": "서울"\n}'
    tab.page.fill(".call textarea", '{"하늘":"맑음"}')
    tab.page.keyboard.press("Tab")
    tab.page.keyboard.press("Enter")
    until_shown(tab, "맑습니다.")
    assert server.asked[1]["messages"] == [
        {"role": "user", "content": "서울 날씨는?"},
        {
            "role": "assistant",
            "content": "볼게요.",
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"도시": "서울"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": '{"하늘":"맑음"}'},
    ]
    assert tab.page.inner_text(".message.tool .body") == '{\n  "하늘": "맑음"\n}'
    assert tab.page.locator(".call textarea").count() == 0


def test_all_calls_are_answered_together_and_only_when_all_have_a_result(tab: Tab, server: StandIn) -> None:
    calls = [call(0, "{}", id="a", name="하나"), call(1, "{}", id="b", name="둘"), chunk(finish="tool_calls")]
    server.script = [calls, ["끝"]]
    ask(tab, "?")
    tab.page.fill("[aria-label='하나의 결과를 적어 주세요']", "1")
    tab.page.click("text=결과 보내기")
    assert len(server.asked) == 1
    tab.page.fill("[aria-label='둘의 결과를 적어 주세요']", "2")
    tab.page.click("text=결과 보내기")
    until_shown(tab, "끝")
    told = [(one["tool_call_id"], one["content"]) for one in server.asked[1]["messages"][2:]]
    assert told == [("a", "1"), ("b", "2")]
    assert server.asked[1]["messages"][1]["content"] is None


def test_a_call_that_nobody_answers_is_as_if_it_had_not_been_made(tab: Tab, server: StandIn) -> None:
    server.script = [["음", call(0, "{}", id="a", name="하나"), chunk(finish="tool_calls")], ["네"]]
    ask(tab, "?")
    answered(tab)
    ask(tab, "그냥 답해.")
    until_shown(tab, "네")
    assert server.asked[1]["messages"][1] == {"role": "assistant", "content": "음"}


def test_a_question_stays_where_only_a_call_answered_it(tab: Tab, server: StandIn) -> None:
    server.script = [[call(0, "{}", id="a", name="하나"), chunk(finish="tool_calls")], ["네"]]
    ask(tab, "날씨는?")
    until_count(tab, ".call textarea", 1)
    ask(tab, "그냥 답해.")
    until_shown(tab, "네")
    told = [(one["role"], one["content"]) for one in server.asked[1]["messages"]]
    assert told == [("user", "날씨는?"), ("assistant", ""), ("user", "그냥 답해.")]


@pytest.mark.parametrize("ending", [chunk(finish="length"), {"error": {"message": "no"}}, None])
def test_a_call_that_was_cut_asks_for_no_result(tab: Tab, server: StandIn, ending: Any) -> None:
    server.script = [[call(0, '{"도시', id="a", name="하나"), ending]]
    ask(tab, "?")
    tab.page.wait_for_selector(".assistant .status:not([hidden])")
    assert tab.page.locator(".call").count() == 1
    assert tab.page.locator(".call textarea, .calls [type=submit]").count() == 0


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("tools", "[", "JSON이 아닙니다."),
        ("tools", '[{"type": "function"}]', "목록으로 적으세요"),
        ("tools", json.dumps([WEATHER]), "목록으로 적으세요"),
        ("response_format", "[]", "JSON 객체"),
        ("response_format", '{"type": ', "JSON이 아닙니다."),
        ("n", "9", "1~8"),
    ],
)
def test_what_is_not_a_tool_or_a_schema_is_refused_as_it_is_typed(
    tab: Tab, name: str, text: str, problem: str
) -> None:
    open_settings(tab)
    tab.page.click("#settings summary")
    field(tab, name).fill(text)
    assert problem in row(tab, name).locator("[role=alert]").inner_text()
    assert field(tab, name).get_attribute("aria-invalid") == "true"


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("{}", {"type": "json_object"}),
        (
            '{"type": "array"}',
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "array"}}},
        ),
    ],
)
def test_a_schema_goes_with_the_question(tab: Tab, server: StandIn, text: str, form: Any) -> None:
    server.script = [["{}"]]
    open_settings(tab)
    field(tab, "response_format").fill(text)
    tab.page.keyboard.press("Escape")
    ask(tab, "?")
    answered(tab)
    assert server.asked[0]["response_format"] == form


def test_several_answers_to_one_question_are_branches_side_by_side(tab: Tab, server: StandIn) -> None:
    server.script = [
        [
            chunk(content="가"), chunk(index=1, content="나"), chunk(index=1, content="다"),
            chunk(finish="stop"), chunk(index=1, finish="length"),
        ],
        ["네"],
    ]  # fmt: skip
    open_settings(tab)
    tab.page.click("#settings summary")
    field(tab, "n").fill("2")
    tab.page.keyboard.press("Escape")
    ask(tab, "?")
    until_count(tab, ".beside .message:not(.open)", 2)
    assert tab.page.locator(".beside .body").all_inner_texts() == ["가", "나다"]
    assert len(server.asked) == 1
    assert server.asked[0]["n"] == 2
    assert tab.page.locator(".beside .status:not([hidden])").count() == 1
    # One that was cut off is gone on with alone.
    tab.page.locator(".beside .other >> text=이어 쓰기").click()
    until_shown(tab, "나다네", f".beside {ANSWER}")
    assert "n" not in server.asked[1]
