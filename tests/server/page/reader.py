"""What a reader does on the page, and waits for: ask, see the answer, open the settings."""

import json
import math
from typing import Any

from .browser import Tab
from .stand_in import TIMINGS, StandIn

QUESTION = "#question"
ANSWER = ".message.assistant:last-child .body"
KEPT = "import('/page/store.js').then(({ Store }) => new Store().all())"
"""A promise of the chats that the browser keeps."""


def ask(tab: Tab, text: str) -> None:
    """Send a question. It is on the page then, unless another is still being answered."""
    tab.page.fill(QUESTION, text)
    tab.page.press(QUESTION, "Enter")
    tab.page.evaluate(
        "new Promise((resolve) => setTimeout(resolve))"
    )  # compose_box.js acts behind its events


def answered(tab: Tab) -> str:
    """The last answer's text, when it is whole."""
    tab.page.wait_for_selector(".message.assistant:last-child:not(.open)")
    text: str = tab.page.inner_text(ANSWER)
    return text


def answered_and_kept(tab: Tab) -> str:
    """The last answer's text, when it is whole and the browser keeps it so: what it took comes last."""
    text = answered(tab)
    until_kept(tab, content=text, timings=TIMINGS)
    return text


def until_kept(tab: Tab, **fields: Any) -> None:
    """Wait until the browser keeps a message with these fields."""
    is_there = f"""(chats) => chats.some(({{ messages }}) => Object.values(messages).some((message) =>
        Object.entries({json.dumps(fields)}).every(([name, value]) =>
            JSON.stringify(message[name]) === JSON.stringify(value))))"""
    tab.until(f"{KEPT}.then({is_there})", True)


def until_shown(tab: Tab, text: str, selector: str = ANSWER) -> None:
    tab.until(f"document.querySelector({selector!r})?.innerText", text)


def until_count(tab: Tab, selector: str, count: int) -> None:
    tab.until(f"document.querySelectorAll({selector!r}).length", count)


def asked(server: StandIn) -> list[str]:
    """The last message of each request."""
    return [body["messages"][-1]["content"] for body in server.asked]


def open_settings(tab: Tab) -> None:
    tab.page.click("#open-settings")
    tab.page.wait_for_selector("#settings[open]")


def row(tab: Tab, name: str) -> Any:
    return tab.page.locator(".field", has=tab.page.locator(f"code:text-is('{name}')"))


def field(tab: Tab, name: str) -> Any:
    return row(tab, name).locator("input, textarea, select")


def likely(text: bytes, probability: float, *others: tuple[str, float]) -> dict[str, Any]:
    """A token in OpenAI's form."""
    shown = text.decode("utf-8", "replace")
    token = {"token": shown, "bytes": list(text), "logprob": math.log(probability)}
    rest = [{"token": other, "bytes": list(other.encode()), "logprob": math.log(p)} for other, p in others]
    return {**token, "top_logprobs": [token, *rest]}


def reload(tab: Tab) -> None:
    """Open the page anew, and wait until it knows the models."""
    tab.page.reload()
    tab.page.wait_for_selector("#model option", state="attached")


def see_tokens(tab: Tab) -> None:
    """Have the tokens of the next answers shown."""
    open_settings(tab)
    tab.page.check("#sees-tokens")
    tab.page.keyboard.press("Escape")
