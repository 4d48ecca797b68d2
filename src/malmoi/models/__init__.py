"""The families, one page each, and what they share.

Read `llama.py` first: a page is a Config, an assembly of bricks, and weight rules. `base.py` says what a
family is, `huggingface.py` reads config files strictly, `checkpoint.py` loads and saves directories.
"""

from malmoi.models.base import count_parameters, initialise, require_kind
from malmoi.models.checkpoint import build_model, load_config, load_model, save_model
from malmoi.models.registry import family_names, find_family

__all__ = [
    "build_model",
    "count_parameters",
    "family_names",
    "find_family",
    "initialise",
    "load_config",
    "load_model",
    "require_kind",
    "save_model",
]
