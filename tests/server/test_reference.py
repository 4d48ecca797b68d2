"""/docs: the API on a page of ours, which loads nothing from elsewhere."""

import re
from html.parser import HTMLParser

import pytest
from tests.server.conftest import Serve, Served

from malmoi.server.app import PAGE
from malmoi.server.trust.access import CONTENT_POLICY
from malmoi.testing.models import tiny_llm


class Loaded(HTMLParser):
    """What a page loads, and what it says in line."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.inline: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.inline += [name for name, _ in attrs if name == "style" or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self._inside in ("script", "style") and data.strip():
            self.inline.append(data)


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_loads_files_of_ours_alone_and_has_nothing_in_line(tiny: Served, path: str) -> None:
    response = tiny.http.get(path)
    loaded = Loaded(response.text)
    assert loaded.inline == []
    assert loaded.addresses
    for address in loaded.addresses:
        assert address.startswith(("/", "#")), address
        assert not address.startswith("//"), address
        assert tiny.http.get(address).status_code == 200
    assert response.headers["content-security-policy"] == CONTENT_POLICY


def test_what_its_script_loads_is_ours_too(tiny: Served) -> None:
    script = (PAGE / "reference.js").read_text(encoding="utf-8")
    for name in re.findall(r'from "\./(.*?)"', script):
        assert (PAGE / name).is_file()
    assert re.findall(r'fetch\("(.*?)"', script) == ["/openapi.json"]
    assert "innerHTML" not in script
    assert "unsafe" not in CONTENT_POLICY


def test_it_is_open_and_what_it_shows_needs_the_key(serve: Serve) -> None:
    served = serve(tiny_llm(), api_keys=("one",))
    assert served.http.get("/docs").status_code == 200
    assert served.http.get("/openapi.json").status_code == 401
    described = served.http.get("/openapi.json", headers={"Authorization": "Bearer one"})
    assert "/v1/chat/completions" in described.json()["paths"]
    assert served.http.get("/redoc").status_code == 401
