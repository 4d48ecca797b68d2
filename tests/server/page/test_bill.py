"""The bill: the tokens of a conversation by model, and what they cost in won and dollars."""

from typing import Any

import pytest

from .browser import Tab
from .reader import answered, answered_and_kept, ask, field, open_settings, reload, until_count
from .stand_in import StandIn, chunk

pytestmark = pytest.mark.slow


def used(prompt: int, completion: int, *, cached: int = 0, thought: int = 0) -> dict[str, Any]:
    """The last chunk of an answer that took so many tokens."""
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }
    return {**chunk(finish="stop"), "usage": usage}


def price(server: StandIn, place: int, currency: str, input: float, output: float) -> None:
    known = server.models[place].setdefault("malmoi", {"context_length": 128})
    known["price"] = {"currency": currency, "input": input, "output": output}


def rows(tab: Tab) -> list[list[str]]:
    return [row.locator("th, td").all_inner_texts() for row in tab.page.locator("#bill tbody tr").all()]


def test_the_bill_has_every_branch_by_model_with_its_cost(tab: Tab, server: StandIn) -> None:
    price(server, 0, "KRW", 1000, 2000)
    price(server, 1, "USD", 0.5, 1.5)
    reload(tab)
    server.final_usage = None
    server.script = [
        ["하나", used(1000, 500, cached=400, thought=100)],
        ["둘", used(2000, 500)],
        ["셋", used(4000, 1000)],
    ]
    ask(tab, "?")
    answered(tab)
    tab.page.click("[aria-label='다시 답하기']")
    tab.page.wait_for_selector(".branches")
    answered(tab)
    tab.page.select_option("#model", "other")
    ask(tab, "?")
    until_count(tab, ".message.assistant:not(.open)", 2)
    assert tab.page.inner_text("#open-bill") == "이 대화 9,000토큰 · ₩5 + $0.0035"
    tab.page.click("#open-bill")
    assert rows(tab) == [
        ["malmoi", "3,000", "400", "1,000", "100", "₩5"],
        ["other", "4,000", "0", "1,000", "0", "$0.0035"],
    ]
    assert tab.page.inner_text("#bill .total") == "모두 ₩5 + $0.0035"


def test_a_price_that_nobody_said_can_be_typed_and_is_kept(tab: Tab, server: StandIn) -> None:
    server.final_usage = None
    server.script = [["네", used(1000, 500)]]
    ask(tab, "?")
    answered_and_kept(tab)
    assert tab.page.inner_text("#open-bill") == "이 대화 1,500토큰"
    tab.page.focus("#open-bill")
    tab.page.keyboard.press("Enter")
    assert rows(tab)[0][-1] == "값 모름"
    tab.page.keyboard.press("Escape")
    open_settings(tab)
    tab.page.fill("[aria-label='malmoi: 입력']", "0.1")
    assert tab.page.inner_text("#open-bill") == "이 대화 1,500토큰", "half a price is none"
    tab.page.fill("[aria-label='malmoi: 출력']", "0.2")
    tab.page.select_option("[aria-label='malmoi: 통화']", "USD")
    tab.page.keyboard.press("Escape")
    assert tab.page.inner_text("#open-bill") == "이 대화 1,500토큰 · $0.0002"
    reload(tab)
    tab.page.click("#chats .title")
    assert tab.page.inner_text("#open-bill") == "이 대화 1,500토큰 · $0.0002"


def test_with_a_rate_everything_is_shown_in_won_and_dollars(tab: Tab, server: StandIn) -> None:
    price(server, 0, "USD", 1, 2)
    reload(tab)
    server.final_usage = None
    server.script = [["네", used(1000, 500)]]
    ask(tab, "?")
    answered(tab)
    open_settings(tab)
    tab.page.locator(".field", has_text="1달러는 몇 원").locator("input").fill("1500")
    tab.page.keyboard.press("Escape")
    assert tab.page.inner_text("#open-bill") == "이 대화 1,500토큰 · ₩3 ($0.002)"


def test_a_rate_of_nothing_is_none(tab: Tab, server: StandIn) -> None:
    price(server, 0, "KRW", 1000, 2000)
    reload(tab)
    server.final_usage = None
    server.script = [["네", used(1000, 500)]]
    ask(tab, "?")
    answered(tab)
    open_settings(tab)
    tab.page.locator(".field", has_text="1달러는 몇 원").locator("input").fill("0")
    tab.page.keyboard.press("Escape")
    assert tab.page.inner_text("#open-bill") == "이 대화 1,500토큰 · ₩2"


def test_each_of_several_answers_takes_its_own_part_of_the_context(tab: Tab, server: StandIn) -> None:
    server.final_usage = None
    server.script = [
        [chunk(content="가"), chunk(index=1, content="나"), chunk(index=1, finish="stop"), used(20, 12)]
    ]
    open_settings(tab)
    tab.page.click("#settings summary")
    field(tab, "n").fill("2")
    tab.page.keyboard.press("Escape")
    ask(tab, "?")
    until_count(tab, ".beside .message:not(.open)", 2)
    assert tab.page.inner_text("#gauge-text") == "컨텍스트 26 / 128"
    tab.page.click(".beside .other >> text=이 답으로 이어 가기")
    assert tab.page.inner_text("#gauge-text") == "컨텍스트 26 / 128"
    assert tab.page.inner_text("#open-bill") == "이 대화 32토큰", "what was paid is that of all"


def test_the_tokens_page_says_what_a_text_costs(tab: Tab, server: StandIn) -> None:
    price(server, 0, "KRW", 1000, 2000)
    reload(tab)
    tab.page.click("#pages a[href='#tokens']")
    tab.page.fill("#tokens-page textarea", "글" * 500)
    until_count(tab, "#tokens-page section:first-of-type .piece", 500)
    facts = tab.page.locator("#tokens-page section").first.locator("dl > div").all_inner_texts()
    told = [fact.split("\n") for fact in facts]
    assert ["₩0.5", "입력 값"] in told or ["입력 값", "₩0.5"] in told
    assert ["₩1", "출력 값"] in told or ["출력 값", "₩1"] in told
