"""A conversation: what is shown as an answer comes, and what the server is asked."""

import json
import threading
from typing import Any

import pytest

from .browser import PATIENCE, Tab
from .reader import ANSWER, QUESTION, answered, ask, asked, until_shown
from .stand_in import Refusal, StandIn, chunk

pytestmark = pytest.mark.slow


def test_an_answer_appears_as_it_comes(tab: Tab, server: StandIn) -> None:
    rest = threading.Event()
    server.script = [["안녕", rest, "하세요"]]
    ask(tab, "안녕?")
    until_shown(tab, "안녕")
    rest.set()
    assert answered(tab) == "안녕하세요"
    assert tab.page.input_value(QUESTION) == ""
    assert server.asked == [
        {
            "model": "malmoi",
            "messages": [{"role": "user", "content": "안녕?"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


def test_a_syllable_that_the_network_cuts_arrives_whole(tab: Tab, server: StandIn) -> None:
    event = f"data: {json.dumps(chunk(content='한글'), ensure_ascii=False)}\r\n\r\n".encode()
    server.script = [[piece for at in range(len(event)) for piece in (event[at : at + 1], 0.001)]]
    ask(tab, "?")
    assert answered(tab) == "한글"


def test_the_next_question_goes_with_the_conversation(tab: Tab, server: StandIn) -> None:
    server.script = [["하나"], ["둘"]]
    ask(tab, "일?")
    answered(tab)
    ask(tab, "이?")
    answered(tab)
    assert server.asked[1]["messages"] == [
        {"role": "user", "content": "일?"},
        {"role": "assistant", "content": "하나"},
        {"role": "user", "content": "이?"},
    ]


@pytest.mark.parametrize("how", ["button", "Escape"])
def test_stopping_ends_the_request_and_keeps_what_came(tab: Tab, server: StandIn, how: str) -> None:
    server.script = [["여기까지", threading.Event()]]
    ask(tab, "길게")
    until_shown(tab, "여기까지")
    if how == "button":
        tab.page.click("#stop")
    else:
        tab.page.keyboard.press("Escape")
    assert answered(tab) == "여기까지"
    assert "여기서 멈췄습니다" in tab.page.inner_text(".message.assistant .status")
    assert server.hung_up.wait(PATIENCE)


def test_a_question_waits_while_an_answer_is_under_way(tab: Tab, server: StandIn) -> None:
    server.script = [["음", threading.Event()]]
    ask(tab, "첫째")
    until_shown(tab, "음")
    ask(tab, "둘째")
    assert tab.page.input_value(QUESTION) == "둘째"
    assert asked(server) == ["첫째"]


def test_a_refusal_is_shown_in_the_servers_words_and_can_be_tried_again(tab: Tab, server: StandIn) -> None:
    server.script = [Refusal(400, "top_p=1.5 is out of range."), ["됐다"]]
    ask(tab, "?")
    alert = tab.page.wait_for_selector(".message [role=alert]")
    assert "top_p=1.5 is out of range." in alert.inner_text()
    tab.errors.clear()  # the browser's own line about the status
    tab.page.click(".message.assistant .status button")
    assert answered(tab) == "됐다"
    assert tab.page.locator(".branches").count() == 0, "an answer that never was is no branch"
    assert server.asked[0] == server.asked[1]


def test_a_question_that_got_no_answer_is_not_told_to_the_model_again(tab: Tab, server: StandIn) -> None:
    server.script = [Refusal(400, "no"), ["네"]]
    ask(tab, "첫째")
    tab.page.wait_for_selector(".message [role=alert]")
    tab.errors.clear()
    ask(tab, "둘째")
    assert answered(tab) == "네"
    assert server.asked[1]["messages"] == [{"role": "user", "content": "둘째"}]


@pytest.mark.parametrize(
    ("ending", "reason"),
    [({"error": {"message": "out of blocks"}}, "out of blocks"), (None, "서버에 연결할 수 없습니다")],
    ids=["error", "hung up"],
)
def test_an_answer_that_breaks_off_stays_and_says_so(
    tab: Tab, server: StandIn, ending: Any, reason: str
) -> None:
    server.script = [["반쯤", ending]]
    ask(tab, "?")
    alert = tab.page.wait_for_selector(".message [role=alert]").inner_text()
    assert tab.page.inner_text(ANSWER) == "반쯤"
    assert "답변이 중간에 끊겼습니다." in alert
    assert reason in alert


def test_a_request_that_went_wrong_is_ended_on_the_server_too(tab: Tab, server: StandIn) -> None:
    server.script = [["반쯤", {"error": {"message": "out of blocks"}}, threading.Event()]]
    ask(tab, "?")
    tab.page.wait_for_selector(".message [role=alert]")
    assert server.hung_up.wait(PATIENCE)


def test_a_question_keeps_the_indentation_of_its_first_line_and_no_blank_lines(
    tab: Tab, server: StandIn
) -> None:
    server.script = [["네"]]
    ask(tab, "\n  \n    def f():\n        pass\n\n")
    answered(tab)
    assert asked(server) == ["    def f():\n        pass"]
    ask(tab, " \n ")
    assert len(server.asked) == 1


def test_a_server_that_is_gone_is_named_as_the_reason(tab: Tab, server: StandIn) -> None:
    tab.page.route("**/v1/chat/completions", lambda route: route.abort())
    ask(tab, "?")
    assert "서버에 연결할 수 없습니다" in tab.page.wait_for_selector(".message [role=alert]").inner_text()
    tab.errors.clear()
