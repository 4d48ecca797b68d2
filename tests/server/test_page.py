"""The page before the real server: what the stand-in of `page/` takes for granted is so."""

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from PIL import Image
from tests.llm.thinkers import HELLO, THINK, says, source
from tests.server.conftest import Serve, Served
from tests.server.page.browser import Tab, launched
from tests.server.page.reader import (
    ANSWER,
    answered,
    ask,
    field,
    open_settings,
    see_tokens,
    until_count,
    until_shown,
)
from tests.server.seeing import seeing_llm

from malmoi.engine import SamplingParams
from malmoi.llm import LLM, ChatPrompt
from malmoi.router.rules import Rule
from malmoi.server.catalogue.local import LocalModel
from malmoi.server.catalogue.price import Price
from malmoi.server.catalogue.routed import Routed, RoutedSettings
from malmoi.text.chat import ChatTemplate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture
def open_tab(browser: Any) -> Iterator[Callable[[Served], Tab]]:
    """Opens the page of a server. Whatever it logs as an error fails the test."""
    tabs: list[Tab] = []

    def opened(served: Served) -> Tab:
        tabs.append(Tab(browser, served.url))
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.context.close()
        assert tab.errors == []


def greedily(tab: Tab, **texts: str) -> None:
    """Have every answer drawn as the likeliest, with these parameters besides."""
    open_settings(tab)
    for name, text in {"temperature": "0", **texts}.items():
        field(tab, name).fill(text)
    tab.page.keyboard.press("Escape")


def or_else(llm: LLM, place: int, token: int) -> None:
    """Let a scripted model find another token nearly as likely at a place of its script. Mutates it."""
    head: torch.Tensor = llm.model.head.weight  # type: ignore[union-attr, assignment]
    first = next(step for step in range(head.shape[1]) if head[:, step].max() > 0)
    with torch.no_grad():
        head[token, first + place] = 29.0


def test_a_syllable_of_three_tokens_is_gone_on_from_within(
    serve: Serve, open_tab: Callable[[Served], Tab]
) -> None:
    llm = says("한글", HELLO, ChatTemplate.default())
    or_else(llm, 2, llm.tokenizer.encode("핝")[2])
    tab = open_tab(serve(llm))
    see_tokens(tab)
    greedily(tab)
    ask(tab, HELLO[0]["content"])
    assert answered(tab).startswith("한글")
    tab.page.locator(".token").first.click()
    tab.page.click("#candidates button[aria-label='여기서 이어 쓰기: 9d']")
    until_count(tab, ".branches", 1)
    assert answered(tab).startswith("핝글")
    ids = [*llm.tokenizer.encode("핝글")]
    taken = tab.page.locator(".token").all_inner_texts()
    assert [llm.tokenizer.encode(text) for text in taken[:2]] == [ids[:3], ids[3:]]


def test_a_thought_is_folded_and_what_goes_on_behind_it_begins_with_it(
    serve: Serve, open_tab: Callable[[Served], Tab]
) -> None:
    llm = says("<think>골똘히</think>답은 하나", HELLO, source("qwen3"), *THINK)
    place = len(llm.tokenizer.encode_special("<think>골똘히</think>답은 "))
    or_else(llm, place, llm.tokenizer.encode("둘")[0])
    tab = open_tab(serve(llm))
    see_tokens(tab)
    greedily(tab)
    ask(tab, HELLO[0]["content"])
    assert answered(tab).startswith("답은 하나")
    tab.page.click(".assistant .thoughts summary")
    until_shown(tab, "골똘히", ".assistant .thoughts p")
    tokens = tab.page.locator(".token")
    assert tokens.all_inner_texts()[:5] == ["답", "은", " ", "하", "나"]
    tokens.nth(3).click()
    tab.page.locator("#candidates button[aria-label^='여기서 이어 쓰기: eb']").first.click()
    until_count(tab, ".branches", 1)
    assert answered(tab).startswith("답은 ")
    assert tokens.all_inner_texts()[:3] == ["답", "은", " "]
    assert tab.page.inner_text(".assistant .thoughts summary") == "0초 동안 생각함"


def test_a_model_that_sees_is_shown_an_image(serve: Serve, open_tab: Callable[[Served], Tab]) -> None:
    llm = seeing_llm()
    served = serve(llm)
    tab = open_tab(served)
    greedily(tab, max_tokens="3")
    file = io.BytesIO()
    Image.new("RGB", (12, 8), "red").save(file, "PNG")
    given = {"name": "빨강.png", "mimeType": "image/png", "buffer": file.getvalue()}
    tab.page.set_input_files("#attach-file", [given])
    until_count(tab, "#attachments li", 1)
    ask(tab, "무슨 색?")
    answered(tab)
    assert tab.page.locator("[role=alert]:not(:empty)").count() == 0
    parts = [{"type": "image", "image": file.getvalue()}, {"type": "text", "text": "무슨 색?"}]
    seen = llm.chat([{"role": "user", "content": parts}], SamplingParams(temperature=0, max_tokens=3))
    assert tab.page.text_content(ANSWER) == seen.text.strip()
    # Sounds it does not take, and says so.
    tab.page.set_input_files("#attach-file", [{"name": "a.wav", "mimeType": "audio/wav", "buffer": b"RIFF"}])
    assert "소리를 듣지 못합니다" in tab.page.wait_for_selector(".notice").inner_text()


def test_a_tool_is_called_and_its_result_is_read(serve: Serve, open_tab: Callable[[Served], Tab]) -> None:
    function = {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
    tools = [{"type": "function", "function": function}]
    prompt = ChatPrompt(messages=HELLO, tools=tools)
    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "서울"}}\n</tool_call>'
    tab = open_tab(serve(says(f"볼게요. {call}", prompt, ChatTemplate.default())))
    greedily(tab, tools=json.dumps(tools))
    ask(tab, HELLO[0]["content"])
    tab.page.wait_for_selector(".call textarea")
    assert tab.page.inner_text(".call h3") == "도구 부르기: weather"
    assert tab.page.inner_text(".call pre") == '{\n  "city": "서울"\n}'
    tab.page.fill(".call textarea", "맑음")
    tab.page.click("text=결과 보내기")
    until_count(tab, ".message.assistant:not(.open)", 2)
    assert tab.page.locator(".message.assistant:last-child [role=alert]").count() == 0


def test_who_spoke_is_said_under_an_answer_of_auto_and_paid_at_its_price(
    serve: Serve, open_tab: Callable[[Served], Tab]
) -> None:
    llm = says("네", HELLO, ChatTemplate.default())
    rule = Rule(name="short", use="small", max_characters=9)
    priced = Price(currency="KRW", input=1e6, output=1e6)  # a won for each token
    small = LocalModel("small", None, load=lambda path: llm, price=priced)
    auto = Routed(RoutedSettings(weak="small", strong="big", rules=(rule,)))
    tab = open_tab(serve(llm, entries={"auto": auto, "small": small, "big": "default"}))
    assert tab.page.locator("#model option").all_inner_texts() == ["auto ⇄", "small", "big"]
    greedily(tab)
    ask(tab, HELLO[0]["content"])
    assert answered(tab) == "네"
    stats = tab.page.inner_text(".message.assistant .stats")
    assert stats.startswith('auto → small · 까닭: rule "short"')
    tab.page.click("#open-bill")
    paid = tab.page.locator("#bill tbody tr :is(th, td)").all_inner_texts()
    assert paid[0] == "small"
    assert paid[-1] == f"₩{int(paid[1]) + int(paid[3])}"
