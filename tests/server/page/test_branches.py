"""Branches of a conversation, one after the other and side by side."""

import threading

import pytest

from .browser import Tab
from .reader import ANSWER, answered, ask, field, open_settings, until_shown
from .stand_in import StandIn

pytestmark = pytest.mark.slow


def test_a_new_answer_and_an_edit_are_branches_and_arrows_lead_back(tab: Tab, server: StandIn) -> None:
    server.script = [["하나"], ["둘"], ["셋"]]
    ask(tab, "물음")
    answered(tab)
    tab.page.click("[aria-label='다시 답하기']")
    until_shown(tab, "둘")
    assert answered(tab) == "둘"
    assert tab.page.inner_text(".message.assistant .branches").strip() == "2/2"
    tab.page.click(".message.assistant [aria-label='이전 갈래']")
    assert tab.page.inner_text(ANSWER) == "하나"

    tab.page.hover(".message.user")
    tab.page.click("[aria-label='고쳐서 다시 보내기']")
    tab.page.fill(".edit textarea", "고친 물음")
    tab.page.press(".edit textarea", "Enter")
    until_shown(tab, "셋")
    assert server.asked[2]["messages"] == [{"role": "user", "content": "고친 물음"}]
    tab.page.click(".message.user [aria-label='이전 갈래']")
    assert tab.page.inner_text(".message.user .body") == "물음"
    assert tab.page.inner_text(ANSWER) == "하나"


def test_an_edit_can_be_called_off(tab: Tab, server: StandIn) -> None:
    server.script = [["하나"]]
    ask(tab, "물음")
    answered(tab)
    tab.page.click("[aria-label='고쳐서 다시 보내기']")
    tab.page.fill(".edit textarea", "아니")
    tab.page.keyboard.press("Escape")
    assert tab.page.inner_text(".message.user .body") == "물음"
    assert len(server.asked) == 1


def test_two_models_answer_side_by_side_and_the_chat_goes_on_from_the_one_that_is_taken(
    tab: Tab, server: StandIn
) -> None:
    server.script = [["하나"], ["둘"], ["셋"], ["넷"]]
    open_settings(tab)
    tab.page.locator(".field", has_text="나란히 비교할 모델").locator("select").select_option("other")
    tab.page.keyboard.press("Escape")
    ask(tab, "물음")
    tab.until("document.querySelectorAll('.beside .message:not(.open)').length", 2)
    assert sorted(body["model"] for body in server.asked) == ["malmoi", "other"]
    other = tab.page.locator(".beside .other")
    taken = other.locator(".body").inner_text()
    assert "other" in other.locator(".stats").inner_text()
    other.locator("text=이 답으로 이어 가기").click()
    ask(tab, "다음")
    tab.until("document.querySelectorAll('.beside .message:not(.open)').length", 4)
    assert all(body["messages"][1]["content"] == taken for body in server.asked[2:])


def test_stopping_stops_both(tab: Tab, server: StandIn) -> None:
    server.script = [["하나", threading.Event()], ["둘", threading.Event()]]
    tab.page.evaluate("localStorage.setItem('malmoi.other', '\"other\"')")
    ask(tab, "물음")
    tab.until(
        "[...document.querySelectorAll('.beside .body')].map(({ innerText }) => innerText).sort()",
        ["둘", "하나"],
    )
    tab.page.keyboard.press("Escape")
    tab.until("document.querySelectorAll('.beside .status:not([hidden])').length", 2)


def test_answers_under_two_settings_can_be_laid_side_by_side(tab: Tab, server: StandIn) -> None:
    server.script = [["차갑게"], ["뜨겁게"]]
    ask(tab, "물음")
    answered(tab)
    open_settings(tab)
    field(tab, "temperature").fill("1.5")
    tab.page.keyboard.press("Escape")
    tab.page.click("[aria-label='다시 답하기']")
    until_shown(tab, "뜨겁게")
    tab.page.click("[aria-label='갈래를 나란히 보기']")
    assert tab.page.locator(".beside .body").all_inner_texts() == ["차갑게", "뜨겁게"]
    assert "temperature=1.5" in tab.page.locator(".beside .stats").nth(1).inner_text()
    tab.page.click("[aria-label='한 갈래만 보기'] >> nth=0")
    assert tab.page.locator(".message.assistant .body").all_inner_texts() == ["뜨겁게"]
