"""The examples in the docstrings of the server are true."""

import doctest
import importlib
import pkgutil

import pytest

import malmoi.server


@pytest.mark.parametrize("name", [info.name for info in pkgutil.iter_modules(malmoi.server.__path__)])
def test_docstring_examples_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"malmoi.server.{name}")).failed == 0
