"""A real browser for the tests of the page: Debian's chromium, driven by Playwright; without one they are skipped.

`Tab` is the page with a profile of its own (its own history and settings). Keys of an input method are sent as Chrome
gets them from one (`Input.imeSetComposition`), so what the page sees are the browser's own events in its own order.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
PATIENCE = 30.0
"""Seconds in which what a test waits for has to come: many, as none that holds waits for them to pass."""
SHIFT = 8
"""The bit of Shift among the modifiers of a key."""


@contextmanager
def launched() -> Iterator[Any]:
    """A browser without a window. Skips the test where Playwright or the browser is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with Playwright")
    if EXECUTABLE is None:
        pytest.skip("there is no chromium to test the page in")
    with playwright.sync_playwright() as started:
        # A container often runs as root, where chromium refuses to start its sandbox.
        browser = started.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """The page at `url`, opened by `browser` for a reader of `language`.

    `errors` is what the page has logged as one: a script that throws, or that the Content-Security-Policy stops.
    """

    def __init__(self, browser: Any, url: str, *, language: str = "ko-KR", **options: Any) -> None:
        self.context = browser.new_context(locale=language, **options)
        self.context.set_default_timeout(1000 * PATIENCE)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("console", lambda said: said.type == "error" and self.errors.append(said.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(url)
        self.page.wait_for_selector("#model option", state="attached")
        self._protocol = self.context.new_cdp_session(self.page)

    def until(self, expression: str, value: Any) -> None:
        """Wait until the page evaluates `expression` to `value`. AssertionError: it does not within `PATIENCE`.

        Playwright's own `wait_for_function` evaluates in the page, where the Content-Security-Policy stops it.
        """
        end = time.monotonic() + PATIENCE
        while (found := self.page.evaluate(expression)) != value and time.monotonic() < end:
            self.page.wait_for_timeout(10)
        assert found == value

    def key(self, kind: str, key: str, *, code: str, number: int, shift: bool = False) -> None:
        """One event of a key, "keyDown" or "keyUp"; `number` 229 means that an input method has taken it."""
        self._protocol.send(
            "Input.dispatchKeyEvent",
            {
                "type": "rawKeyDown" if kind == "keyDown" else kind,
                "key": key,
                "code": code,
                "windowsVirtualKeyCode": number,
                "modifiers": SHIFT * shift,
            },
        )

    def compose(self, *texts: str) -> None:
        """An input method shows `texts` one after the other, each in place of the one before."""
        for text in texts:
            self.key("keyDown", "Process", code="KeyA", number=229)
            at = len(text)
            self._protocol.send(
                "Input.imeSetComposition", {"text": text, "selectionStart": at, "selectionEnd": at}
            )
            self.key("keyUp", "a", code="KeyA", number=65)

    def commit(self, text: str) -> None:
        """The input method is done with its composition: `text` is what stays."""
        self._protocol.send("Input.insertText", {"text": text})
