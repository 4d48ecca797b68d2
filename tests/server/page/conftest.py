"""The page in a real browser, before a server that says exact things. What a reader does there is in `reader.py`."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .browser import Tab, launched
from .stand_in import StandIn, running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture
def server() -> Iterator[StandIn]:
    with running() as server:
        yield server


@pytest.fixture
def open_tab(browser: Any, server: StandIn) -> Iterator[Callable[..., Tab]]:
    """Opens the page as often as a test likes. Whatever the page logs as an error fails the test."""
    tabs: list[Tab] = []

    def opened(**options: Any) -> Tab:
        tabs.append(Tab(browser, server.url, **options))
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.context.close()
        assert tab.errors == []


@pytest.fixture
def tab(open_tab: Callable[..., Tab]) -> Tab:
    return open_tab()
