"""What the guides name exists: files, laws, make targets, presets of commands."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "README.ko.md",
    *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").glob("*.md"))),
]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    for link in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text):
        if "://" not in link:
            assert ((ROOT / page).parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_that_a_page_names_exists(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"`make ([a-z-]+)", (ROOT / page).read_text("utf-8")):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", ["docs/add-a-family.md", "docs/add-a-family.ko.md"])
def test_every_law_and_table_that_the_guide_names_exists(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    tests = "".join(file.read_text("utf-8") for file in (ROOT / "tests" / "models").glob("test_*.py"))
    laws = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert len(laws) > 5
    for law in laws:
        assert f"def test_{law}(" in tests, law
    for file in re.findall(r"`(tests/[\w/]+\.py)`", text):
        assert (ROOT / file).exists(), file
