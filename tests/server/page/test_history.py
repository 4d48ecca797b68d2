"""What is kept in the browser: found, deleted, taken back, out to a file and in again."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .browser import Tab
from .reader import ANSWER, answered, ask, until_shown
from .stand_in import StandIn

pytestmark = pytest.mark.slow


def test_chats_are_there_after_a_reload_and_are_found(tab: Tab, server: StandIn) -> None:
    server.script = [["서울입니다"], ["파도"]]
    ask(tab, "한국의 수도는?")
    answered(tab)
    tab.page.click("#new-chat")
    ask(tab, "바다 소리")
    answered(tab)
    tab.page.reload()
    titles = tab.page.locator("#chats .title span")
    tab.page.wait_for_selector("#chats li")
    assert titles.all_inner_texts() == ["바다 소리", "한국의 수도는?"]
    for query in ("수도", "ㅎㄱ", "서우", "\u1109\u1165\u110b\u116e\u11af"):
        tab.page.fill("#search", query)
        assert titles.all_inner_texts() == ["한국의 수도는?"], query
    tab.page.fill("#search", "없는 말")
    assert tab.page.inner_text("#no-chats") == "찾는 말이 든 대화가 없습니다."
    tab.page.fill("#search", "")
    tab.page.click("text=한국의 수도는?")
    assert tab.page.inner_text(ANSWER) == "서울입니다"


def test_an_answer_goes_on_while_another_chat_is_open(tab: Tab, server: StandIn) -> None:
    rest = threading.Event()
    server.script = [["앞", rest, "뒤"]]
    ask(tab, "오래 걸리는 물음")
    tab.page.wait_for_selector("#stop:visible")
    tab.page.click("#new-chat")
    assert tab.page.locator(".message").count() == 0
    rest.set()
    tab.page.click("text=오래 걸리는 물음")
    assert answered(tab) == "앞뒤"


def test_a_deleted_chat_can_be_taken_back(tab: Tab, server: StandIn) -> None:
    server.script = [["네"]]
    ask(tab, "지울 대화")
    answered(tab)
    tab.page.hover("#chats li")
    tab.page.click("#chats [aria-label^='대화 지우기']")
    assert tab.page.locator("#chats li").count() == 0
    assert tab.page.locator(".message").count() == 0
    tab.page.click("text=되돌리기")
    assert tab.page.inner_text("#chats .title span") == "지울 대화"


def test_an_answer_that_is_under_way_does_not_bring_a_deleted_chat_back(tab: Tab, server: StandIn) -> None:
    server.script = [["앞", threading.Event()]]
    ask(tab, "지울 대화")
    until_shown(tab, "앞")
    tab.page.hover("#chats li")
    tab.page.click("#chats [aria-label^='대화 지우기']")
    assert server.hung_up.wait(5)
    tab.page.wait_for_timeout(50)
    tab.page.reload()
    tab.page.wait_for_selector("#no-chats:visible")
    assert tab.page.locator("#chats li").count() == 0


def test_a_page_that_was_left_in_mid_answer_says_so_when_it_is_back(tab: Tab, server: StandIn) -> None:
    server.script = [["앞", 1.1, "뒤", threading.Event()]]
    ask(tab, "물음")
    until_shown(tab, "앞뒤")
    tab.page.reload()
    tab.page.click("#chats .title")
    assert tab.page.inner_text(ANSWER) == "앞뒤"
    assert "여기서 멈췄습니다" in tab.page.inner_text(".message.assistant .status")


def test_the_list_of_chats_keeps_the_focus_while_an_answer_is_kept(tab: Tab, server: StandIn) -> None:
    server.script = [["가", 1.1, "나", threading.Event()]]
    ask(tab, "물음")
    until_shown(tab, "가")
    tab.page.focus("#chats .title")
    until_shown(tab, "가나")
    assert tab.page.evaluate("document.activeElement.className") == "title"


def test_what_is_exported_is_imported_by_another_browser(
    open_tab: Callable[..., Tab], server: StandIn, tmp_path: Path
) -> None:
    one, other = open_tab(), open_tab()
    server.script = [["**답**"], ["다른 답"]]
    ask(one, "물음")
    answered(one)
    one.page.click("[aria-label='다시 답하기']")
    one.page.wait_for_selector(".branches")
    answered(one)
    with one.page.expect_download() as download:
        one.page.click("#export")
    file = tmp_path / "chats.json"
    download.value.save_as(file)
    assert json.loads(file.read_text(encoding="utf-8"))["version"] == 1
    other.page.set_input_files("#import-file", file)
    other.page.click("#chats .title")
    assert other.page.inner_text(".branches").strip() == "2/2"
    other.page.click("[aria-label='이전 갈래']")
    assert other.page.inner_html(ANSWER) == "<p><strong>답</strong></p>"


GOOD = {
    "id": "a", "title": "t", "created": 1, "changed": 1, "settings": {"system": "", "parameters": {}},
    "messages": {"m": {"id": "m", "parent": "", "role": "user", "content": "x"}}, "chosen": {"": "m"},
}  # fmt: skip


@pytest.mark.parametrize(
    "conversation",
    [
        None,
        {**GOOD, "settings": {}},
        {**GOOD, "messages": {"m": {**GOOD["messages"]["m"], "role": "system"}}},
        {**GOOD, "messages": {"m": {**GOOD["messages"]["m"], "parent": "gone"}}},
        {**GOOD, "messages": {"m": {**GOOD["messages"]["m"], "parent": "m"}}, "chosen": {}},
        {**GOOD, "messages": {"m": {**GOOD["messages"]["m"], "tokens": [{"token": 1}]}}},
        {
            **GOOD,
            "messages": {
                "m": {**GOOD["messages"]["m"], "tokens": [{"token": "a", "logprob": 0, "bytes": 1}]}
            },
        },
        {**GOOD, "messages": {"m": {**GOOD["messages"]["m"], "role": "tool"}}},
        {**GOOD, "messages": {"m": {**GOOD["messages"]["m"], "calls": [{"id": "a", "name": "b"}]}}},
        {**GOOD, "messages": {"m": {**GOOD["messages"]["m"], "began": {}}}},
        {**GOOD, "chosen": {"": "gone"}},
    ],
)
def test_a_damaged_file_is_refused_whole(tab: Tab, tmp_path: Path, conversation: Any) -> None:
    file = tmp_path / "chats.json"
    content = {"format": "malmoi-conversations", "version": 1, "conversations": [GOOD, conversation]}
    file.write_text(json.dumps(content))
    tab.page.set_input_files("#import-file", file)
    assert "conversations[1]" in tab.page.wait_for_selector(".notice").inner_text()
    assert tab.page.locator("#chats li").count() == 0
