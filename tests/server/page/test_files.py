"""The files of the page."""

import re

import pytest

from .stand_in import PAGE

pytestmark = pytest.mark.slow


def test_the_page_is_small_and_every_file_says_what_it_is() -> None:
    files = sorted(PAGE.iterdir())
    assert sum(file.stat().st_size for file in files) < 250_000
    for file in files:
        text = file.read_text(encoding="utf-8")
        if file.suffix in {".js", ".css"}:
            assert text.startswith("/* "), file.name
        assert "http://" not in text.replace("http://www.w3.org", "").replace("http://192.168", ""), file.name


TEXT = r"""("(?:[^"\\]|\\.)*"|'[^']*')"""
PHRASE = re.compile(rf"^    (\w+): \[\s*{TEXT},\s*{TEXT},?\s*\]", re.MULTILINE)
PLACE = re.compile(r"\{\w+\}")
SAID = re.compile(r'(?:say\(\s*|data-(?:say|label|hint)=)"(\w+)"')


def test_every_phrase_is_said_in_both_languages_and_somewhere() -> None:
    phrases = (PAGE / "phrases.js").read_text(encoding="utf-8")
    found = PHRASE.findall(phrases)
    assert len(found) == len(re.findall(r"^    \w+: \[", phrases, re.MULTILINE))
    others = "".join(
        file.read_text(encoding="utf-8")
        for file in PAGE.iterdir()
        if file.name != "phrases.js" and file.stem != "reference"  # which has words of its own
    )
    for name, korean, english in found:
        assert f'"{name}"' in others or name.startswith("kind_"), f"{name} is never said"
        assert name == "tokensSample" or not re.search("[가-힣]", english), english
        assert sorted(PLACE.findall(korean)) == sorted(PLACE.findall(english)), name
    assert {*SAID.findall(others)} <= {name for name, _, _ in found}
