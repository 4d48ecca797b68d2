"""The options that `malmoi generate` and `malmoi chat` share: which model, and how to sample from it.

An option left out keeps the model's default; `--set` and `/set` reach every field of `SamplingParams`, which
checks the values itself. Read next: `malmoi.engine.params`, what each number does; `engine.py`, the other options.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from malmoi.core.config import override
from malmoi.core.errors import DataError
from malmoi.core.files import read_text
from malmoi.engine import SamplingParams

OPTIONS = (
    click.option("--model", metavar="DIR|HUB_ID", help="A checkpoint directory or a Hugging Face id."),
    click.option("--max-tokens", type=int, metavar="N", help="Stop after so many tokens."),
    click.option("--temperature", type=float, metavar="T", help="0: always the likeliest token."),
    click.option("--top-p", type=float, metavar="P", help="Of the likeliest tokens, those that make up P."),
    click.option("--top-k", type=int, metavar="K", help="Of the K likeliest tokens only."),
    click.option("--min-p", type=float, metavar="P", help="Of tokens P times as likely as the first."),
    click.option("--stop", multiple=True, metavar="TEXT", help="Stop before this text. May be repeated."),
    click.option(
        "--json-schema",
        type=click.Path(path_type=Path),
        callback=lambda _context, _option, file: file and read_text(file, error=DataError),
        metavar="FILE",
        help="The answer is JSON of the schema in this file.",
    ),
    click.option(
        "--script-lock",
        multiple=True,
        metavar="SCRIPT",
        help="Only this script, such as hangul; Latin in part. May be repeated.",
    ),
    click.option("--seed", type=int, metavar="N", help="The same seed gives the same text."),
    click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Any other parameter."),
)


def sampling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `OPTIONS` to a click command. All but `model` belong into `sampling_changes`."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def sampling_changes(*, assignments: Iterable[str], **options: Any) -> dict[str, Any]:
    """Return the sampling parameters that the parsed options give, by name.

    They are checked here, before a model is loaded, and belong on top of the model's own `default_params`.

    Raises:
        ConfigError: there is no such parameter, or its value is of another type.
        RequestError: a value is out of its range.

    >>> sampling_changes(assignments=["presence_penalty=1", "stop=끝"], top_k=40, seed=None)
    {'top_k': 40, 'presence_penalty': 1.0, 'stop': ('끝',)}
    """
    given = {name: value for name, value in options.items() if value not in (None, ())}
    tight = ["=".join(part.strip() for part in text.split("=", 1)) for text in assignments]
    params = override(replace(SamplingParams(), **given), tight)
    names = [*given, *(text.partition("=")[0] for text in tight)]
    return {name: getattr(params, name) for name in names}
