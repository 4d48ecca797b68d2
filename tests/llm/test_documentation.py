"""The examples in the docstrings of engine and llm are true, and life-of-a-request.md names tests that exist."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch

import malmoi.engine
import malmoi.llm

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "life-of-a-request.md"
MODULES = [
    info.name
    for package in (malmoi.engine, malmoi.llm)
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
]


@pytest.mark.parametrize("name", [*MODULES, "malmoi.testing.models"])
def test_docstring_examples_are_true(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, globs={"torch": torch, **vars(module)})
    assert result.failed == 0


def test_the_page_has_eight_steps_with_a_test_each() -> None:
    steps = re.split(r"\n(?=\*\*\d\. )", PAGE.read_text("utf-8"))[1:]
    assert [step[2] for step in steps] == list("12345678")
    for step in steps:
        assert re.search(r"`tests/\S+::\w+`", step), step


def test_every_test_and_file_that_the_page_names_exists() -> None:
    page = PAGE.read_text("utf-8")
    for file, name in re.findall(r"`(tests/\S+\.py)::(\w+)`", page):
        assert re.search(rf"^(def )?{name}\b", (ROOT / file).read_text("utf-8"), re.MULTILINE), name
    for link in re.findall(r"\]\((\S+?)\)", page):
        assert (PAGE.parent / link).exists(), link
