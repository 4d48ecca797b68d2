"""The models and who of them spoke: what the list says, and why an answer is whose."""

from collections.abc import Callable

import pytest

from .browser import Tab
from .reader import answered_and_kept, ask, open_settings, reload
from .stand_in import StandIn, chunk

pytestmark = pytest.mark.slow

MODELS = [
    {"id": "auto", "malmoi": {"kind": "routed", "loaded": True, "chooses": ["먼", "작은"]}},
    {
        "id": "작은",
        "malmoi": {
            "kind": "writes", "loaded": True, "context_length": 2048, "parameters": 33_000_000, "bytes": 3 * 2**20,
            "abilities": {"thinking": "never", "tools": False, "fills_gaps": False, "media": ["image"]},
        },
    },
    {
        "id": "먼",
        "malmoi": {
            "kind": "upstream", "context_length": 32768, "price": {"currency": "USD", "input": 0.5, "output": 1.5},
            "abilities": {"thinking": "switchable", "tools": True, "fills_gaps": False, "media": []},
        },
    },
    {"id": "잠든", "malmoi": {"kind": "writes", "loaded": False}},
    {"id": "임베딩", "malmoi": {"kind": "reads", "loaded": True}},
]  # fmt: skip


@pytest.fixture
def tab(open_tab: Callable[..., Tab], server: StandIn) -> Tab:
    server.models = MODELS
    return open_tab()


def test_the_list_marks_what_runs_elsewhere_and_leaves_out_what_cannot_chat(tab: Tab) -> None:
    assert tab.page.locator("#model option").all_inner_texts() == ["auto ⇄", "작은", "먼 ↗", "잠든"]


def test_each_model_says_what_it_is_and_can(tab: Tab) -> None:
    tab.page.click("[popovertarget=models]")
    told = dict(
        zip(
            tab.page.locator("#models button").all_inner_texts(),
            tab.page.locator("#models li p").all_inner_texts(),
            strict=True,
        )
    )
    assert told == {
        "auto ⇄": "질문마다 모델을 고름 · 올라와 있음 · 먼, 작은",
        "작은": "이 서버의 모델 · 올라와 있음 · 컨텍스트 2,048 · 매개변수 33M · 메모리 3 MiB · 이미지",
        "먼 ↗": "다른 서버의 모델 · 컨텍스트 32,768 · 생각 · 도구 · 백만 토큰에 입력 $0.5, 출력 $1.5",
        "잠든": "이 서버의 모델 · 처음 부를 때 올림",
    }


def test_a_model_is_chosen_from_the_list_with_the_keyboard(tab: Tab) -> None:
    tab.page.focus("[popovertarget=models]")
    for key in ("Enter", "Tab", "Tab", "Enter"):
        tab.page.keyboard.press(key)
    tab.until("document.getElementById('model').value", "작은")
    assert tab.page.locator("#models").is_hidden()
    reload(tab)
    assert tab.page.input_value("#model") == "작은"


def test_an_answer_of_auto_says_who_spoke_and_why(tab: Tab, server: StandIn) -> None:
    spoken = {**chunk(content="네"), "model": "먼", "malmoi": {"asked": "auto", "why": "긴 질문"}}
    server.script = [[spoken], ["또"]]
    ask(tab, "?")
    answered_and_kept(tab)
    assert server.asked[0]["model"] == "auto"
    stats = tab.page.inner_text(".message.assistant .stats")
    assert stats.startswith("auto → 먼 · 까닭: 긴 질문 · ")
    # What it took is on the bill of the one that spoke.
    tab.page.click("#open-bill")
    assert tab.page.inner_text("#bill tbody th") == "먼"
    # It is still auto that is asked, and it is kept.
    reload(tab)
    tab.page.click("#chats .title")
    assert tab.page.inner_text(".message.assistant .stats") == stats


def test_only_a_tokenizer_that_is_here_cuts(tab: Tab) -> None:
    tab.page.click("#pages a[href='#tokens']")
    tab.page.wait_for_selector("#tokens-page section")
    assert tab.page.locator("#tokens-page fieldset label").all_inner_texts() == ["작은", "잠든", "임베딩"]


def test_what_no_model_takes_is_not_offered(tab: Tab) -> None:
    tab.page.select_option("#model", "작은")
    open_settings(tab)
    names = tab.page.locator("#settings code").all_inner_texts()
    assert "temperature" in names
    assert "response_format" in names
    assert not {"tools", "tool_choice", "reasoning_effort"} & set(names)
    assert "따로 생각하지 않습니다" in tab.page.inner_text("#settings")
