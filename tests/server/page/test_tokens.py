"""Tokens made visible, in an answer and on the page that cuts texts."""

import pytest

from .browser import Tab
from .reader import answered, ask, likely, see_tokens, until_count
from .stand_in import StandIn, chunk

pytestmark = pytest.mark.slow


def test_tokens_are_tinted_by_probability_and_show_what_else_was_likely(tab: Tab, server: StandIn) -> None:
    half, rest = "한".encode()[:2], "한".encode()[2:]
    server.script = [
        [
            chunk(content="", logprobs={"content": [likely(half, 0.5)]}),
            chunk(content="한", logprobs={"content": [likely(rest, 0.99)]}),
            chunk(content=" 글", logprobs={"content": [likely(" 글".encode(), 0.04, (" 말", 0.6))]}),
            chunk(content="", logprobs={"content": [likely(b"<|im_end|>", 0.9)]}),
        ]
    ]
    see_tokens(tab)
    ask(tab, "?")
    answered(tab)
    assert {name: server.asked[0][name] for name in ("logprobs", "top_logprobs")} == {
        "logprobs": True,
        "top_logprobs": 5,
    }
    tokens = tab.page.locator(".token")
    assert tokens.all_inner_texts() == ["한", " 글", "<|im_end|>"]
    tints = [token.get_attribute("class") for token in tokens.all()]
    assert tints == ["token level2", "token level5", "token level0 unsaid"]
    tokens.nth(1).click()
    table = tab.page.inner_text("#candidates")
    assert all(shown in table for shown in ("␣글", "4 %", "␣말", "60 %", "나머지", "36 %"))


def test_speed_and_the_context_that_is_used_are_shown(tab: Tab, server: StandIn) -> None:
    server.script = [["네"]]
    ask(tab, "?")
    answered(tab)
    assert (
        tab.page.inner_text(".message.assistant .stats") == "malmoi · 12토큰 · 45.3토큰/초 · 첫 토큰 0.12초"
    )
    assert tab.page.inner_text("#gauge-text") == "컨텍스트 32 / 128"
    assert tab.page.evaluate("document.getElementById('gauge-meter').value") == 0.25


def test_an_answer_that_the_limit_cut_off_says_so(tab: Tab, server: StandIn) -> None:
    server.script = [["길고 긴", chunk(finish="length")]]
    ask(tab, "?")
    answered(tab)
    assert "최대 토큰 수" in tab.page.inner_text(".message.assistant .status")


def test_the_tokens_page_cuts_a_text_by_every_model(tab: Tab) -> None:
    tab.page.click("#pages a[href='#tokens']")
    tab.page.fill("#tokens-page textarea", "한글 a\n")
    until_count(tab, "#tokens-page .piece", 14)
    section = tab.page.locator("#tokens-page section").first
    assert section.locator(".piece").all_inner_texts() == ["ed", "95", "9c", "글", " ", "a", "↵\n"]
    assert section.locator("dd").all_inner_texts() == ["7", "5", "9", "3.5"]
    tab.page.uncheck("#tokens-page input[value=other]")
    until_count(tab, "#tokens-page section", 1)
    tab.page.click("#tokens-page button:text-is('NFD')")
    until_count(tab, "#tokens-page .piece", 9)
