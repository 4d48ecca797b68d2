"""Which page describes a checkpoint: `model_type` of its `config.json` -> a family.

A page is imported when it is asked for. A new family is one more line in `_PAGES`, one page, and one line in
`tests/models/conftest.py`, which puts it under the laws that all families obey.
"""

import importlib
from typing import Any

from malmoi.core.errors import ConfigError
from malmoi.models.base import Family

_PAGES = {"gpt2": "malmoi.models.gpt2", "llama": "malmoi.models.llama"}


def family_names() -> list[str]:
    """Every `model_type` that can be loaded.

    >>> family_names()
    ['gpt2', 'llama']
    """
    return sorted(_PAGES)


def find_family(model_type: str) -> Family[Any]:
    """The family of a `model_type`. Raises ConfigError for one that is not here.

    >>> find_family("llama").architecture
    'LlamaForCausalLM'
    """
    if model_type not in _PAGES:
        raise ConfigError(
            f"model_type={model_type!r} is not a family that Malmoi has. It has: {', '.join(family_names())}."
        )
    family: Family[Any] = importlib.import_module(_PAGES[model_type]).FAMILY
    return family


def family_of(config: object) -> Family[Any]:
    """The family whose configuration `config` is. Raises ConfigError if it is of none."""
    for model_type in _PAGES:
        family = find_family(model_type)
        if isinstance(config, family.config_class):
            return family
    raise ConfigError(
        f"{type(config).__name__} is the configuration of no family. Use the Config of a page of malmoi.models."
    )
