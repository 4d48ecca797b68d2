"""/docs in a real browser: every address with its parameters, found by a word, and nothing loaded from elsewhere."""

from collections.abc import Iterator
from typing import Any

import pytest
from tests.server.conftest import Serve

from malmoi.testing.models import tiny_llm

from .browser import PATIENCE


class Reader:
    """The page at `url`, what it asked for, and what it logged as an error."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(1000 * PATIENCE)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda said: said.type == "error" and self.errors.append(said.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{url}/docs")
        self.url = url

    def shown(self) -> list[str]:
        """The addresses that are to be seen."""
        return [text.strip() for text in self.page.locator("#endpoints h2:visible").all_inner_texts()]


@pytest.fixture
def reader(browser: Any, serve: Serve) -> Iterator[Any]:
    """Opens the page of a server with these settings."""
    readers: list[Reader] = []

    def opened(*, language: str = "ko-KR", width: int = 1280, **settings: Any) -> Reader:
        url = serve(tiny_llm(), **settings).url
        view = {"width": width, "height": 800}
        readers.append(Reader(browser, url, locale=language, viewport=view))
        return readers[-1]

    yield opened
    for one in readers:
        assert all(address.startswith(one.url) for address in one.asked)
        one.context.close()


@pytest.mark.parametrize(("language", "word"), [("ko-KR", "필수"), ("en-US", "required")])
@pytest.mark.parametrize("width", [1280, 360])
def test_it_shows_every_address_with_its_parameters(
    reader: Any, language: str, word: str, width: int
) -> None:
    opened = reader(language=language, width=width)
    section = opened.page.locator("section", has_text="/v1/chat/completions").first
    section.wait_for()
    said = section.inner_text()
    assert word in said
    for parameter in ("messages", "temperature", "response_format", "json_schema"):
        assert parameter in said
    assert len(opened.shown()) == opened.page.locator("#paths li").count() > 25
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.errors == []


def test_a_word_finds_the_addresses_that_have_it(reader: Any) -> None:
    opened = reader()
    opened.page.locator("section").first.wait_for()
    opened.page.fill("#filter", "audio")
    assert any("/v1/audio/transcriptions" in text for text in opened.shown())
    assert not any("/tokenize" in text for text in opened.shown())
    opened.page.fill("#filter", "없는말")
    assert opened.shown() == []
    assert opened.page.get_by_text("찾는 것이 없습니다.").is_visible()
    assert opened.errors == []


def test_a_server_with_keys_is_asked_with_the_one_that_the_reader_gives(reader: Any) -> None:
    opened = reader(api_keys=("one",))
    opened.page.fill("#key-form input", "wrong")
    opened.page.press("#key-form input", "Enter")
    opened.page.locator("#key-form input:focus:placeholder-shown").wait_for()  # a new one, which is empty
    opened.page.fill("#key-form input", "one")
    opened.page.press("#key-form input", "Enter")
    opened.page.locator("section").first.wait_for()
    opened.page.reload()
    opened.page.locator("section").first.wait_for()
    assert all("401" in error for error in opened.errors)  # the browser's own word about the first two
