"""What the guides name exists: files, laws, make targets, presets of commands."""

import re
from inspect import signature
from pathlib import Path

import pytest

import malmoi

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


ENGINE = ["docs/engine.md", "docs/engine.ko.md"]


@pytest.mark.slow
@pytest.mark.parametrize("page", [*ENGINE, "docs/reasoning-and-tools.md", "docs/reasoning-and-tools.ko.md"])
def test_the_guides_to_what_an_llm_does_are_programs_that_run(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    program = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    exec(compile(program, page, "exec"), {})  # what it says of itself it asserts


@pytest.mark.parametrize("page", ENGINE)
def test_the_guide_to_the_engine_has_every_parameter_and_no_option_that_there_is_not(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    options, parameters = (
        text.partition(f"| `{name}` |")[2] for name in ("engine_options", "SamplingParams")
    )
    first_column = re.findall(r"^\| (`.*?`) \|", parameters, re.MULTILINE)
    named = [name for cell in first_column for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(named) == sorted(vars(malmoi.SamplingParams()))
    rows = re.findall(r"^\| `(\w+)` \|", options.partition("\n\n")[0], re.MULTILINE)
    assert rows
    assert set(rows) <= set(signature(malmoi.Engine).parameters)


def test_both_guides_to_the_engine_have_the_same_transcript() -> None:
    first, second = (
        re.findall(r"^> .*?(?=```)", (ROOT / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)
        for page in ENGINE
    )
    assert first == second != []
