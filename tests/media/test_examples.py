"""The examples in the docstrings of `media` are true."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import malmoi.media

MODULES = [info.name for info in pkgutil.iter_modules(malmoi.media.__path__, "malmoi.media.")]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_are_true(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    assert result.attempted == inspect.getsource(module).count(">>> "), "an example was not found"
