"""What is kept in the browser: found, deleted, taken back, out to a file and in again."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .browser import PATIENCE, Tab
from .reader import (
    ANSWER,
    KEPT,
    answered,
    answered_and_kept,
    ask,
    reload,
    until_count,
    until_kept,
    until_shown,
)
from .stand_in import StandIn

pytestmark = pytest.mark.slow

DUE_MS = 1100
"""So long after an answer was kept it is kept again, with what has come of it by then."""


def test_chats_are_there_after_a_reload_and_are_found(tab: Tab, server: StandIn) -> None:
    server.script = [["서울입니다"], ["파도"]]
    ask(tab, "한국의 수도는?")
    answered_and_kept(tab)
    tab.page.click("#new-chat")
    ask(tab, "바다 소리")
    answered_and_kept(tab)
    tab.page.reload()
    titles = tab.page.locator("#chats .title span")
    tab.page.wait_for_selector("#chats li")
    assert titles.all_inner_texts() == ["바다 소리", "한국의 수도는?"]
    for query in ("수도", "ㅎㄱ", "서우", "\u1109\u1165\u110b\u116e\u11af"):
        tab.page.fill("#search", query)
        assert titles.all_inner_texts() == ["한국의 수도는?"], query
    for sign in "-/^$\\.*+?()[]{}|":
        tab.page.fill("#search", sign)
        assert titles.all_inner_texts() == (["한국의 수도는?"] if sign == "?" else []), sign
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


def test_a_chat_that_cannot_be_deleted_says_so(tab: Tab, server: StandIn) -> None:
    server.script = [["네"]]
    ask(tab, "지울 대화")
    answered(tab)
    tab.page.evaluate("() => { IDBObjectStore.prototype.delete = () => { throw new Error('broken'); }; }")
    tab.page.hover("#chats li")
    tab.page.click("#chats [aria-label^='대화 지우기']")
    until_shown(tab, "이 브라우저에서 대화를 지우지 못했습니다. Error: broken", ".notice")


def test_a_chat_is_kept_only_when_its_transaction_is_through(tab: Tab) -> None:
    kept = """async () => {
        const { Store } = await import("/page/store.js");
        const { put } = IDBObjectStore.prototype;
        IDBObjectStore.prototype.put = function (value) {
            const request = put.call(this, value);
            request.addEventListener("success", () => this.transaction.abort());
            return request;
        };
        return new Store().put({ id: "a" }).then(() => "kept", () => "refused");
    }"""
    assert tab.page.evaluate(kept) == "refused"


def test_chats_are_kept_after_the_browser_has_cleared_what_it_had(tab: Tab, server: StandIn) -> None:
    server.script = [["하나"], ["둘"]]
    ask(tab, "물음")
    answered(tab)
    deleted = """new Promise((resolve, reject) => {
        const request = indexedDB.deleteDatabase("malmoi");
        request.onsuccess = () => resolve("deleted");
        request.onblocked = () => reject(new Error("blocked"));
    })"""
    assert tab.page.evaluate(deleted) == "deleted"
    ask(tab, "다음")
    answered_and_kept(tab)
    tab.until(f"{KEPT}.then((chats) => chats.length)", 1)
    assert tab.page.locator(".notice").count() == 0
    reload(tab)
    tab.page.click("#chats .title")
    assert tab.page.inner_text(ANSWER) == "둘"


def test_two_answers_under_way_in_two_chats_are_both_kept(tab: Tab, server: StandIn) -> None:
    first, second = threading.Event(), threading.Event()
    server.script = [["가", first, "나", threading.Event()], ["다", second, "라", threading.Event()]]
    ask(tab, "하나")
    until_shown(tab, "가")
    tab.page.click("#new-chat")
    ask(tab, "둘")
    until_shown(tab, "다")
    tab.page.wait_for_timeout(DUE_MS)
    first.set()
    until_kept(tab, content="가나")
    second.set()
    until_kept(tab, content="다라")
    reload(tab)
    tab.page.click("#chats .title >> text=둘")
    assert tab.page.inner_text(ANSWER) == "다라"


def test_an_answer_that_is_under_way_does_not_bring_a_deleted_chat_back(tab: Tab, server: StandIn) -> None:
    server.script = [["앞", threading.Event()]]
    ask(tab, "지울 대화")
    until_shown(tab, "앞")
    tab.page.hover("#chats li")
    tab.page.click("#chats [aria-label^='대화 지우기']")
    assert server.hung_up.wait(PATIENCE)
    tab.until(f"{KEPT}.then((chats) => chats.length)", 0)
    tab.page.wait_for_timeout(50)  # in which it would come back
    tab.page.reload()
    tab.page.wait_for_selector("#no-chats:visible")
    assert tab.page.locator("#chats li").count() == 0


def test_a_page_that_was_left_in_mid_answer_says_so_when_it_is_back(tab: Tab, server: StandIn) -> None:
    rest = threading.Event()
    server.script = [["앞", rest, "뒤", threading.Event()]]
    ask(tab, "물음")
    until_shown(tab, "앞")
    tab.page.wait_for_timeout(DUE_MS)
    rest.set()
    until_kept(tab, content="앞뒤")
    tab.page.reload()
    tab.page.click("#chats .title")
    assert tab.page.inner_text(ANSWER) == "앞뒤"
    assert "여기서 멈췄습니다" in tab.page.inner_text(".message.assistant .status")


def test_the_list_of_chats_keeps_the_focus_while_an_answer_is_kept(tab: Tab, server: StandIn) -> None:
    rest = threading.Event()
    server.script = [["가", rest, "나", threading.Event()]]
    ask(tab, "물음")
    until_shown(tab, "가")
    tab.page.focus("#chats .title")
    tab.page.wait_for_timeout(DUE_MS)
    rest.set()
    until_kept(tab, content="가나")
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
        {**GOOD, "changed": 1e20},
        {**GOOD, "created": -1e20},
        {**GOOD, "settings": {"system": "", "parameters": {"n": 1e9}}},
        {**GOOD, "settings": {"system": "", "parameters": {"stop": 5}}},
        {**GOOD, "settings": {"system": "", "parameters": {"tool_choice": "perhaps"}}},
        {**GOOD, "messages": {"m": {**GOOD["messages"]["m"], "usage": {}}}},
        {**GOOD, "messages": {"m": {**GOOD["messages"]["m"], "timings": {}}}},
    ],
)
def test_a_damaged_file_is_refused_whole(tab: Tab, tmp_path: Path, conversation: Any) -> None:
    file = tmp_path / "chats.json"
    content = {"format": "malmoi-conversations", "version": 1, "conversations": [GOOD, conversation]}
    file.write_text(json.dumps(content))
    tab.page.set_input_files("#import-file", file)
    assert "conversations[1]" in tab.page.wait_for_selector(".notice").inner_text()
    assert tab.page.locator("#chats li").count() == 0


SETTINGS = {
    "temperature": 0.5, "seed": 7, "stop": ["끝", "\\n"], "logit_bias": {"12": -1.5}, "script_lock": ["hangul", "han"],
    "response_format": {"type": "json_object"}, "parallel_tool_calls": False,
    "tools": [{"type": "function", "function": {"name": "weather"}}], "reasoning_effort": "low",
}  # fmt: skip
USED = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "prompt_tokens_details": None}


def chats(file: Path, *conversations: Any) -> Path:
    content = {"format": "malmoi-conversations", "version": 1, "conversations": conversations}
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_every_setting_and_count_that_can_be_exported_is_imported(tab: Tab, tmp_path: Path) -> None:
    answer = {
        "id": "a", "parent": "m", "role": "assistant", "content": "y", "finish": "stop", "usage": USED,
        "timings": {"first_token_s": 0.1, "tokens_per_second": 9},
    }  # fmt: skip
    messages = {**GOOD["messages"], "a": answer}  # type: ignore[dict-item]
    settings = {"system": "", "parameters": SETTINGS}
    one = {**GOOD, "settings": settings, "messages": messages, "chosen": {"": "m", "m": "a"}}
    tab.page.set_input_files("#import-file", chats(tmp_path / "chats.json", one))
    tab.page.click("#chats .title")
    assert "2토큰" in tab.page.inner_text(".assistant .stats")


def later(conversation: Any) -> Any:
    """The same chat with a question more, a minute later."""
    last = conversation["chosen"][next(reversed(conversation["chosen"]))]
    more = {"id": "more", "parent": last, "role": "user", "content": "더"}
    return {
        **conversation,
        "changed": conversation["changed"] + 60_000,
        "messages": {**conversation["messages"], "more": more},
        "chosen": {**conversation["chosen"], last: "more"},
    }


def test_a_deleted_chat_that_is_imported_again_is_kept_as_it_goes_on(
    tab: Tab, server: StandIn, tmp_path: Path
) -> None:
    file = chats(tmp_path / "chats.json", GOOD)
    tab.page.set_input_files("#import-file", file)
    tab.page.hover("#chats li")
    tab.page.click("#chats [aria-label^='대화 지우기']")
    until_count(tab, "#chats li", 0)
    tab.page.set_input_files("#import-file", file)
    tab.page.click("#chats .title")
    server.script = [["네"]]
    ask(tab, "물음")
    answered_and_kept(tab)
    reload(tab)
    tab.page.click("#chats .title")
    assert tab.page.locator(".message .body").all_inner_texts() == ["x", "물음", "네"]


def test_a_later_copy_of_the_chat_that_is_open_is_shown_and_gone_on_from(
    tab: Tab, server: StandIn, tmp_path: Path
) -> None:
    tab.page.set_input_files("#import-file", chats(tmp_path / "chats.json", GOOD))
    tab.page.click("#chats .title")
    tab.page.set_input_files("#import-file", chats(tmp_path / "later.json", later(GOOD)))
    until_count(tab, ".message", 2)
    server.script = [["네"]]
    ask(tab, "물음")
    answered_and_kept(tab)
    reload(tab)
    tab.page.click("#chats .title")
    assert tab.page.locator(".message .body").all_inner_texts() == ["x", "더", "물음", "네"]


def test_a_title_ends_between_two_characters_as_a_reader_counts_them(tab: Tab, server: StandIn) -> None:
    family = "👨‍👩‍👧"
    server.script = [["네"]]
    ask(tab, "가" * 59 + family * 2)
    answered(tab)
    assert tab.page.inner_text("#chats .title span") == "가" * 59 + family
