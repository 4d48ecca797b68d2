"""Patterns of tensor names: `{}` for one segment, `{*}` for the numbers of a series.

    "model.layers.{}.mlp.{}.weight"       reads "model.layers.7.mlp.up_proj.weight" as ("7", "up_proj")
    "model.layers.{}.experts.{*}.weight"  reads "model.layers.7.experts.3.weight"   as ("7",), number "3"

Read next: `rules.py`, which pairs patterns.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple


class Match(NamedTuple):
    """What a name has where its pattern has `{}` (in order) and `{*}` ("" if the pattern has none)."""

    segments: tuple[str, ...]
    number: str


def match(pattern: str, name: str) -> Match | None:
    """Return how `name` fits `pattern`, or None; `fill` is the way back.

    >>> match("h.{}.experts.{*}", "h.11.experts.3")
    Match(segments=('11',), number='3')
    """
    found = _regex(pattern).fullmatch(name)
    if found is None:
        return None
    values = found.groupdict()
    number = values.pop("number", "")
    return Match(tuple(values.values()), number)


def fill(pattern: str, segments: Sequence[str], number: object = "") -> str:
    """Return the name that has `segments` where `pattern` has `{}`, and `number` where it has `{*}`.

    >>> fill("h.{}.experts.{*}", ["11"], 3)
    'h.11.experts.3'
    """
    return pattern.replace("{*}", str(number)).format(*segments)


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    head, *tail = re.escape(pattern).split(r"\{\}")
    segments = "".join(f"(?P<segment{i}>[^.]+){part}" for i, part in enumerate(tail))
    # No leading zeros: a number must be written back as it was read.
    return re.compile((head + segments).replace(r"\{\*\}", "(?P<number>0|[1-9][0-9]*)"))
