"""A thought: it streams into a folded block above the answer, is kept, and is not told to the model again."""

import threading
from typing import Any

import pytest

from .browser import PATIENCE, Tab
from .reader import answered, answered_and_kept, ask, field, open_settings, reload, until_kept, until_shown
from .stand_in import StandIn, chunk

pytestmark = pytest.mark.slow

THOUGHT = ".message.assistant:last-child .thoughts"
SUMMARY = f"{THOUGHT} summary"


def until_it_counts(tab: Tab, seconds: int) -> None:
    """Wait until the page says that the model has been thinking for so long, or for longer."""
    said = f"document.querySelector({SUMMARY!r})?.innerText.match(/^생각하는 중… (\\d+)초$/)?.[1]"
    tab.until(f"Number({said}) >= {seconds}", True)


def thinking_model(server: StandIn, how: str) -> None:
    """Let the first model of the list think so: never, always, or as it is told."""
    server.models[0]["malmoi"]["abilities"] = {"thinking": how, "tools": False, "media": []}


def test_a_thought_streams_into_a_folded_block_that_says_how_long_it_takes(tab: Tab, server: StandIn) -> None:
    more, rest = threading.Event(), threading.Event()
    server.script = [
        [chunk(reasoning_content="음, "), more, chunk(reasoning_content="**그래**."), rest, "답"]
    ]
    ask(tab, "?")
    until_it_counts(tab, 1)
    assert not tab.page.locator(THOUGHT).evaluate("node => node.open")
    tab.page.click(SUMMARY)
    until_shown(tab, "음,", f"{THOUGHT} p")
    more.set()
    tab.page.wait_for_selector(f"{THOUGHT} strong")
    rest.set()
    assert answered(tab) == "답"
    told = tab.page.inner_text(SUMMARY)
    assert told.endswith("초 동안 생각함")
    assert tab.page.inner_text(f"{THOUGHT} p") == "음, 그래."


def test_a_thought_is_opened_with_the_keyboard_and_is_there_after_a_reload(tab: Tab, server: StandIn) -> None:
    server.script = [[chunk(reasoning_content="골똘히"), "답"]]
    ask(tab, "?")
    answered_and_kept(tab)
    told = tab.page.inner_text(SUMMARY)
    assert told in {f"{seconds}초 동안 생각함" for seconds in range(int(PATIENCE))}
    tab.page.reload()
    tab.page.click("#chats .title")
    assert tab.page.inner_text(SUMMARY) == told
    tab.page.focus(SUMMARY)
    tab.page.keyboard.press("Enter")
    until_shown(tab, "골똘히", f"{THOUGHT} p")


def test_a_page_that_was_left_in_mid_thought_does_not_go_on_counting(tab: Tab, server: StandIn) -> None:
    rest = threading.Event()
    server.script = [[chunk(reasoning_content="음"), rest, chunk(reasoning_content="…"), threading.Event()]]
    ask(tab, "?")
    until_it_counts(tab, 2)
    rest.set()
    until_kept(tab, reasoning="음…")
    tab.page.reload()
    tab.page.click("#chats .title")
    assert tab.page.inner_text(SUMMARY) == "생각"


def test_an_answer_that_is_gone_on_with_takes_its_thought_along(tab: Tab, server: StandIn) -> None:
    server.script = [[chunk(reasoning_content="음"), "하나", chunk(finish="length")], [" 둘"]]
    ask(tab, "?")
    answered(tab)
    tab.page.click("text=이어 쓰기")
    until_shown(tab, "하나 둘", ".message.assistant:last-child .body")
    beginning = {"role": "assistant", "content": "하나", "reasoning_content": "음", "prefix": True}
    assert server.asked[1]["messages"][-1] == beginning


def test_a_thought_is_not_told_to_the_model_again(tab: Tab, server: StandIn) -> None:
    server.script = [[chunk(reasoning_content="음"), "답"], ["네"]]
    ask(tab, "?")
    answered(tab)
    ask(tab, "또?")
    answered(tab)
    assert server.asked[1]["messages"][1] == {"role": "assistant", "content": "답"}


@pytest.mark.parametrize(
    ("how", "parameters"),
    [
        ("never", []),
        ("always", ["reasoning_effort", "thinking_budget"]),
        ("switchable", ["enable_thinking", "reasoning_effort", "thinking_budget"]),
    ],
)
def test_a_thought_is_steered_where_the_model_lets_it(
    tab: Tab, server: StandIn, how: str, parameters: list[str]
) -> None:
    thinking_model(server, how)
    reload(tab)
    open_settings(tab)
    shown = tab.page.locator("#settings code").all_inner_texts()
    names = ["enable_thinking", "reasoning_effort", "thinking_budget"]
    assert [name for name in names if name in shown] == parameters


def test_switch_and_budget_go_with_the_question(tab: Tab, server: StandIn) -> None:
    server.script = [["네"], ["네"]]
    open_settings(tab)
    field(tab, "enable_thinking").select_option(label="생각하고 답하기")
    field(tab, "thinking_budget").fill("64")
    tab.page.keyboard.press("Escape")
    ask(tab, "?")
    answered(tab)
    asked: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": True}, "thinking_budget": 64}
    assert server.asked[0].items() >= asked.items()
    # A model that never thinks is not asked to, whatever was set for another.
    thinking_model(server, "never")
    reload(tab)
    ask(tab, "?")
    answered(tab)
    assert not server.asked[1].keys() & asked.keys()
