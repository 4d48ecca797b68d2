"""The examples in the docstrings of `text.training`, and of what it needs, are true."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import malmoi.text.training

MODULES = [
    "malmoi.text.composition",
    "malmoi.text.morphemes",
    "malmoi.text.pretokenize",
    *(info.name for info in pkgutil.iter_modules(malmoi.text.training.__path__, "malmoi.text.training.")),
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_are_true(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted == inspect.getsource(module).count(">>> "), "an example was not found"
