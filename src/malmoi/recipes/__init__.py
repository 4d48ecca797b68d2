"""Recipes: functions that return a complete, typed run. `malmoi train NAME --data DIR --set key=value`.

A recipe takes the directory of its data, some also the depth of the model, the one dial of size, and fixes
everything else; `--set` changes any of it. Read `story.py`, which takes the sample corpus (or one like it) from
text to chat, then `default_model.py`, which made the model that ships in the package, `encoder_tasks.py` and
`text_to_text.py`.
"""

import difflib
import inspect
from collections.abc import Callable

from malmoi.core.errors import ConfigError
from malmoi.recipes import default_model, encoder_tasks, story, text_to_text
from malmoi.train.config import RunConfig

RECIPES: dict[str, Callable[..., RunConfig]] = {
    "pretrain": story.pretrain,
    "sft": story.sft,
    "mlm": encoder_tasks.mlm,
    "classify": encoder_tasks.classify,
    "similarity": encoder_tasks.similarity,
    "denoise": text_to_text.denoise,
    "default-pretrain": default_model.pretrain,
    "default-sft": default_model.sft,
}


def make_run(name: str, data: str, *, depth: int | None = None) -> RunConfig:
    """The run that the recipe `name` describes, on the data in the directory `data`.

    Raises ConfigError for a name that there is not, or a depth where the recipe has one size.

    >>> make_run("pretrain", "sample", depth=2).total_tokens
    1966080
    """
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"there is no recipe {name!r}. {hint}Recipes: {', '.join(RECIPES)}.")
    recipe = RECIPES[name]
    if depth is None:
        return recipe(data)
    if "depth" not in inspect.signature(recipe).parameters:
        raise ConfigError(f"the recipe {name!r} has one size and takes no depth={depth}. Leave --depth out.")
    if depth < 1:
        raise ConfigError(f"depth={depth} is not positive. Give 1 or more.")
    return recipe(data, depth=depth)
