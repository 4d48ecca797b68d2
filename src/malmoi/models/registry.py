"""Which page describes a checkpoint: `model_type` of its `config.json` -> a family.

A page is imported when it is asked for. A new family is one more line in `_PAGES`, one page, and one file in
`tests/models/families/`, which puts it under the laws that all families obey.
"""

import difflib
import importlib
from collections.abc import Callable
from typing import Any

from malmoi.core.errors import ConfigError
from malmoi.models.base import Family

_PAGES = {
    "bert": "bert",
    "clip_vision_model": "clip",
    "deepseek_v2": "deepseek",
    "deepseek_v3": "deepseek_v3",
    "exaone4": "exaone4",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "gpt2": "gpt2",
    "llama": "llama",
    "llava": "llava",
    "moe_llava": "moe_llava",
    "omni": "omni",
    "phi3": "phi3",
    "mistral": "mistral",
    "mixtral": "mixtral",
    "qwen2": "qwen",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen_moe",
    "roberta": "roberta",
    "xlm-roberta": "roberta",
    "transformer": "transformer",
    "siglip_vision_model": "siglip",
    "bart": "bart",
    "t5": "t5",
    "mt5": "mt5",
    "qwen2_audio": "audio",
    "whisper": "whisper",
    "recurrent": "recurrent",
}
"""Which page of `malmoi.models` describes a `model_type`."""


def family_names() -> list[str]:
    """Every `model_type` that can be loaded.

    >>> "llama" in family_names()
    True
    """
    return sorted(_PAGES)


def find_family(model_type: str) -> Family[Any]:
    """The family of a `model_type`. Raises ConfigError for one that is not here.

    >>> find_family("llama").architecture
    'LlamaForCausalLM'
    """
    if model_type not in _PAGES:
        near = difflib.get_close_matches(model_type, _PAGES, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"model_type={model_type!r} is not a family that Malmoi has.{hint} It has: {', '.join(family_names())}."
        )
    families: tuple[Family[Any], ...] = importlib.import_module(
        f"malmoi.models.{_PAGES[model_type]}"
    ).FAMILIES
    return next(family for family in families if family.model_type == model_type)


def family_of(config: object) -> Family[Any]:
    """The family whose configuration `config` is. Raises ConfigError if it is of none."""
    home = type(config).__module__.removeprefix("malmoi.models.")
    for model_type, page in _PAGES.items():
        if page == home and type(config) is (family := find_family(model_type)).config_class:
            return family
    raise ConfigError(
        f"{type(config).__name__} is the configuration of no family. Use the Config of a page of malmoi.models."
    )


def preset_names() -> list[str]:
    """The published models whose sizes the pages know.

    >>> "llama3-8b" in preset_names()
    True
    """
    return sorted(_presets())


def find_preset(name: str) -> Any:
    """The configuration of a published model. Raises ConfigError for one that no page knows.

    >>> find_preset("llama3-8b").num_layers
    32
    """
    presets = _presets()
    if name not in presets:
        near = difflib.get_close_matches(name, presets, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{name!r} is no preset.{hint} There are: {', '.join(sorted(presets))}.")
    return presets[name]()


def _presets() -> dict[str, Callable[[], Any]]:
    pages = [importlib.import_module(f"malmoi.models.{page}") for page in sorted(set(_PAGES.values()))]
    return {name: preset for page in pages for name, preset in getattr(page, "PRESETS", {}).items()}
