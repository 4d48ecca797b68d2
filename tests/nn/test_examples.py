"""The examples in the docstrings of bricks and families are true."""

import doctest
import importlib
import inspect
import pkgutil

import pytest
import torch
from torch import nn

import malmoi.models
import malmoi.nn

MODULES = [
    info.name
    for package in (malmoi.nn, malmoi.models)
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_are_true(name: str) -> None:
    module = importlib.import_module(name)
    names = {"torch": torch, "nn": nn, **vars(module)}
    result = doctest.testmod(module, globs=names, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    assert result.attempted == inspect.getsource(module).count(">>> "), "an example was not found"
