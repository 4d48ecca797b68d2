"""The examples in the docstrings of budgets are true."""

import doctest
import importlib
import pkgutil

import pytest
import torch
from torch import nn

import malmoi.budget

MODULES = [info.name for info in pkgutil.walk_packages(malmoi.budget.__path__, "malmoi.budget.")]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_are_true(name: str) -> None:
    module = importlib.import_module(name)
    names = {"torch": torch, "nn": nn, **vars(module)}
    assert doctest.testmod(module, globs=names, optionflags=doctest.ELLIPSIS).failed == 0
