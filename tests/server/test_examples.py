"""The examples in the docstrings of the server are true."""

import doctest
import importlib
import pkgutil

import pytest

import malmoi.server

MODULES = [info.name for info in pkgutil.walk_packages(malmoi.server.__path__, "malmoi.server.")]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_are_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
