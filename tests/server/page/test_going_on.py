"""Going on from another token: the branch keeps what was before it, by ids, and is exact within a syllable too."""

from typing import Any

import pytest

from .browser import Tab
from .reader import ANSWER, answered, ask, likely, see_tokens, until_shown
from .stand_in import Refusal, StandIn, chunk

pytestmark = pytest.mark.slow


def token(text: bytes, id: int, *others: tuple[bytes, int]) -> dict[str, Any]:
    """A token with its id, and others that were likely with theirs."""
    named = [{**likely(each, 0.3), "id": other} for each, other in others]
    made = {**likely(text, 0.5), "id": id}
    return {**made, "top_logprobs": [{**made, "top_logprobs": []}, *named]}


def said(token: dict[str, Any], **delta: Any) -> dict[str, Any]:
    return chunk(logprobs={"content": [token]}, **delta)


SKY = [said(token("하늘".encode(), 1), content="하늘"), said(token("은".encode(), 2, ("이".encode(), 3)), content="은"),
       said(token(" 파랗다".encode(), 4), content=" 파랗다")]  # fmt: skip


def alternative(tab: Tab, text: str) -> Any:
    return tab.page.locator(f"#candidates button[aria-label='여기서 이어 쓰기: {text}']")


def test_an_answer_goes_on_from_another_token_as_a_branch(tab: Tab, server: StandIn) -> None:
    server.script = [SKY, [said(token(" 맑다".encode(), 5), content=" 맑다")], ["네"]]
    see_tokens(tab)
    ask(tab, "?")
    answered(tab)
    tab.page.locator(".token").nth(1).click()
    alternative(tab, "이").click()
    until_shown(tab, "하늘이 맑다")
    assert answered(tab) == "하늘이 맑다"
    assert server.asked[1] == {**server.asked[0], "beginning": [1, 3]}
    assert tab.page.inner_text(".branches").strip() == "2/2"
    assert tab.page.locator(".token").all_inner_texts() == ["하늘", "이", " 맑다"]
    # It is a branch as any other: the chat goes on from it, and leads back.
    ask(tab, "그리고?")
    assert answered(tab) == "네"
    assert server.asked[2]["messages"][1]["content"] == "하늘이 맑다"
    assert "beginning" not in server.asked[2]
    tab.page.click("[aria-label='이전 갈래']")
    assert tab.page.inner_text(ANSWER) == "하늘은 파랗다"


def test_a_branch_within_a_syllable_is_the_syllable_that_it_becomes(tab: Tab, server: StandIn) -> None:
    han, gyeol = "한".encode(), "핝".encode()  # they differ in their last byte
    assert han[:2] == gyeol[:2]
    first = [said(token(han[:2], 1)), said(token(han[2:], 2, (gyeol[2:], 3)), content="한")]
    # What the server adds begins with the syllable that the ids leave open.
    server.script = [
        first,
        [said(token("글".encode(), 4), content="글")],
        [said(token(han[2:], 2), content="한")],
    ]
    see_tokens(tab)
    ask(tab, "?")
    answered(tab)
    tab.page.locator(".token").nth(0).click()
    alternative(tab, gyeol[2:].hex()).click()
    until_shown(tab, "핝글")
    answered(tab)
    assert server.asked[1]["beginning"] == [1, 3]
    tab.page.click("[aria-label='이전 갈래']")
    tab.page.locator(".token").nth(0).click()
    alternative(tab, han[:2].hex(" ")).click()
    until_shown(tab, "한")
    assert answered(tab) == "한"
    assert server.asked[2]["beginning"] == [1]


def test_a_thought_is_part_of_the_beginning_and_not_of_the_answer(tab: Tab, server: StandIn) -> None:
    thought = [
        said(token(b"<think>", 1)),
        said(token("음".encode(), 2), reasoning_content="음"),
        said(token(b"</think>", 3)),
    ]
    server.script = [[*thought, *SKY], [said(token(" 맑다".encode(), 5), content=" 맑다")]]
    see_tokens(tab)
    ask(tab, "?")
    answered(tab)
    assert tab.page.locator(".token").all_inner_texts() == ["하늘", "은", " 파랗다"]
    tab.page.locator(".token").nth(1).click()
    alternative(tab, "이").click()
    until_shown(tab, "하늘이 맑다")
    assert server.asked[1]["beginning"] == [1, 2, 3, 1, 3]
    assert tab.page.inner_text(".message.assistant:last-child .thoughts summary") == "0초 동안 생각함"


def test_an_alternative_is_taken_with_the_keyboard(tab: Tab, server: StandIn) -> None:
    server.script = [SKY, [said(token(b"!", 5), content="!")]]
    see_tokens(tab)
    ask(tab, "?")
    answered(tab)
    tab.page.focus(".token")
    for key in ("ArrowRight", "Enter", "Tab", "Enter"):
        tab.page.keyboard.press(key)
    until_shown(tab, "하늘이!")
    assert server.asked[1]["beginning"] == [1, 3]


def test_a_token_without_an_id_and_one_that_ends_the_text_cannot_be_gone_on_from(
    tab: Tab, server: StandIn
) -> None:
    end = {**token(b"", 9), "token": "<|im_end|>", "bytes": None}
    last = {**token("네".encode(), 1), "top_logprobs": [{**likely("아".encode(), 0.2)}, end]}
    server.script = [[said(last, content="네")]]
    see_tokens(tab)
    ask(tab, "?")
    answered(tab)
    tab.page.locator(".token").first.click()
    assert tab.page.locator("#candidates tr").count() == 3
    assert tab.page.locator("#candidates button").all_inner_texts() == ["네"]


def test_a_branch_that_is_refused_begins_again_where_it_began(tab: Tab, server: StandIn) -> None:
    server.script = [SKY, Refusal(429, "Try again later."), [said(token(b"!", 5), content="!")]]
    see_tokens(tab)
    ask(tab, "?")
    answered(tab)
    tab.page.locator(".token").nth(1).click()
    alternative(tab, "이").click()
    tab.page.wait_for_selector(".message [role=alert]")
    tab.errors.clear()  # the browser's own line about the status
    tab.page.click(".status button")
    until_shown(tab, "하늘이!")
    assert server.asked[1] == server.asked[2]
    assert tab.page.inner_text(".branches").strip() == "2/2"


def test_an_answer_that_was_cut_off_is_gone_on_with(tab: Tab, server: StandIn) -> None:
    server.script = [["길고 긴", chunk(finish="length")], [" 글"]]
    ask(tab, "?")
    answered(tab)
    tab.page.click("text=이어 쓰기")
    until_shown(tab, "길고 긴 글")
    beginning = {"role": "assistant", "content": "길고 긴", "prefix": True}
    assert server.asked[1]["messages"] == [*server.asked[0]["messages"], beginning]
