"""Patterns of tensor names: `{}` stands for one segment.

    "model.layers.{}.mlp.{}.weight"   reads "model.layers.7.mlp.up_proj.weight" as ("7", "up_proj")

Read next: `rules.py`, which pairs patterns.
"""

import re
from collections.abc import Sequence
from functools import cache


def match(pattern: str, name: str) -> tuple[str, ...] | None:
    """Return what `name` has where `pattern` has `{}`, in order, or None if it does not fit; `fill` is the way back.

    >>> match("h.{}.attn.{}", "h.11.attn.bias"), match("h.{}", "h.11.attn")
    (('11', 'bias'), None)
    """
    found = _regex(pattern).fullmatch(name)
    return None if found is None else found.groups()


def fill(pattern: str, segments: Sequence[str]) -> str:
    """Return the name that has `segments` where `pattern` has `{}`.

    >>> fill("h.{}.attn.{}", ["11", "bias"])
    'h.11.attn.bias'
    """
    return pattern.format(*segments)


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\{\}", r"([^.]+)"))
