"""The examples in the docstrings of the router are true."""

import doctest
import importlib
import pkgutil

import pytest

import malmoi.router


@pytest.mark.parametrize("name", [info.name for info in pkgutil.iter_modules(malmoi.router.__path__)])
def test_docstring_examples_are_true(name: str) -> None:
    module = importlib.import_module(f"malmoi.router.{name}")
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0
