"""The public names of the package: a name that comes or goes shows up here, and in CHANGELOG.md."""

import ast
import importlib.metadata
from pathlib import Path

import pytest

import malmoi

PUBLIC_NAMES = {
    "LLM": "malmoi.llm",
    "AsyncLLM": "malmoi.llm",
    "Completion": "malmoi.llm",
    "Engine": "malmoi.engine",
    "MalmoiError": "malmoi.core",
    "SamplingParams": "malmoi.engine",
    "TextEncoder": "malmoi.llm",
    "Tokenizer": "malmoi.text",
    "default_model": "malmoi.weights",
    "load": "malmoi.llm",
    "load_model": "malmoi.models",
    "save_model": "malmoi.models",
}


def test_public_names_are_exactly_these() -> None:
    assert set(malmoi.__all__) == set(PUBLIC_NAMES)


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_each_public_name_comes_from_its_layer_and_is_documented(name: str) -> None:
    value = getattr(malmoi, name)
    assert value.__module__.startswith(PUBLIC_NAMES[name])
    assert value.__doc__


def test_type_checkers_see_the_names_that_run_time_finds() -> None:
    tree = ast.parse(Path(malmoi.__file__).read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    declared = {alias.name: node.module for node in imports for alias in node.names}
    assert {name: declared[name] for name in malmoi.__all__} == malmoi._HOME


def test_an_unknown_name_is_an_attribute_error_that_names_the_public_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'lod'.*load_model"):
        malmoi.lod  # noqa: B018


def test_dir_lists_the_public_names_before_they_are_loaded() -> None:
    assert set(PUBLIC_NAMES) <= set(dir(malmoi))


def test_the_version_is_told_once() -> None:
    assert importlib.metadata.version("malmoi") == malmoi.__version__
