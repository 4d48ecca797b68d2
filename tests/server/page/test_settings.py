"""The settings: only what is set is sent, and what means nothing is refused where it is typed."""

from collections.abc import Callable

import pytest

from malmoi.server.openai.chat_bodies import ChatBody

from .browser import Tab
from .reader import answered, ask, field, open_settings, row
from .stand_in import StandIn

pytestmark = pytest.mark.slow


def test_only_what_is_set_is_sent(tab: Tab, server: StandIn) -> None:
    server.script = [["네"]]
    open_settings(tab)
    tab.page.fill("#settings textarea >> nth=0", "짧게 답해.")
    field(tab, "temperature").fill("0.5")
    field(tab, "stop").fill("끝\n\n그만")
    field(tab, "script_lock").select_option(label="한글과 한자")
    tab.page.click("#settings summary")
    field(tab, "logit_bias").fill("12: -100\n7: 1.5")
    field(tab, "ignore_eos").check()
    field(tab, "top_k").fill("40")
    field(tab, "top_k").fill("")
    tab.page.keyboard.press("Escape")
    ask(tab, "?")
    answered(tab)
    (body,) = server.asked
    assert body["messages"][0] == {"role": "system", "content": "짧게 답해."}
    for name in ("model", "messages", "stream", "stream_options"):
        del body[name]
    assert body == {
        "temperature": 0.5,
        "stop": ["끝", "그만"],
        "script_lock": ["hangul", "han"],
        "logit_bias": {"12": -100, "7": 1.5},
        "ignore_eos": True,
    }


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [("top_p", "1.5", "0~1"), ("seed", "1.5", "정수"), ("temperature", "뜨겁게", "0~2")],
)
def test_a_value_that_means_nothing_is_refused_where_it_is_typed(
    tab: Tab, server: StandIn, name: str, text: str, problem: str
) -> None:
    open_settings(tab)
    field(tab, name).fill(text)
    assert problem in row(tab, name).locator("[role=alert]").inner_text()
    assert field(tab, name).get_attribute("aria-invalid") == "true"


def test_every_parameter_is_explained_in_the_language_of_the_page(open_tab: Callable[..., Tab]) -> None:
    explained = []
    for language in ("ko-KR", "en-US"):
        tab = open_tab(language=language)
        open_settings(tab)
        hints = tab.page.eval_on_selector_all(
            ".field:has(code)", "rows => rows.map(row => row.querySelector('.hint')?.textContent ?? '')"
        )
        assert all(hints)
        assert all(any("가" <= letter <= "힣" for letter in hint) == (language == "ko-KR") for hint in hints)
        explained.append(len(hints))
    assert explained[0] == explained[1] >= 15


def test_a_preset_of_ones_own_outlives_the_page(tab: Tab, server: StandIn) -> None:
    open_settings(tab)
    field(tab, "temperature").fill("0.3")
    tab.page.click("text=지금 설정을 프리셋으로 저장")
    tab.page.fill(".naming input", "내 것")
    tab.page.press(".naming input", "Enter")
    tab.page.click("text=모두 비우기")
    assert field(tab, "temperature").input_value() == ""
    tab.page.reload()
    tab.page.wait_for_selector("#model option", state="attached")
    open_settings(tab)
    tab.page.select_option(".presets select", label="내 것")
    assert field(tab, "temperature").input_value() == "0.3"


def test_the_key_goes_with_every_request(tab: Tab, server: StandIn) -> None:
    server.script = [["네"]]
    open_settings(tab)
    tab.page.fill("#settings input[type=password]", "sk-1")
    tab.page.keyboard.press("Escape")
    ask(tab, "?")
    answered(tab)
    assert server.headers[0]["Authorization"] == "Bearer sk-1"


OURS = {
    "model", "messages", "stream", "stream_options", "logprobs", "top_logprobs", "beginning",
}  # fmt: skip
"""What the page says by other controls than the settings."""
NEEDLESS = {
    "max_completion_tokens", "functions", "function_call", "continue_final_message", "add_generation_prompt",
    "modalities", "store", "metadata", "user", "safety_identifier", "prompt_cache_key", "priority", "cache_salt",
}  # fmt: skip
"""Older names, what changes nothing, and what is for programs that share a server."""


def test_every_parameter_of_the_api_is_on_the_page(tab: Tab) -> None:
    listed = tab.page.evaluate(
        "async () => (await import('/page/parameters.js')).PARAMETERS.map(({ name }) => name)"
    )
    assert sorted(listed) == sorted(ChatBody.model_fields.keys() - OURS - NEEDLESS)


def test_two_ways_to_say_one_thing_are_refused_where_the_second_is_typed(tab: Tab, server: StandIn) -> None:
    server.script = [["네"]]
    open_settings(tab)
    field(tab, "reasoning_effort").select_option(label="조금")
    field(tab, "thinking_budget").fill("64")
    assert "reasoning_effort" in row(tab, "thinking_budget").locator("[role=alert]").inner_text()
    tab.page.keyboard.press("Escape")
    ask(tab, "?")
    answered(tab)
    assert server.asked[0]["reasoning_effort"] == "low"
    assert "thinking_budget" not in server.asked[0]
