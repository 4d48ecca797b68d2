"""The examples in the docstrings of training and recipes are true."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import malmoi.recipes
import malmoi.train

MODULES = [
    info.name
    for package in (malmoi.train, malmoi.recipes)
    for info in [*pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
] + ["malmoi.recipes"]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_are_true(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, globs={"torch": torch, **vars(module)}, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
