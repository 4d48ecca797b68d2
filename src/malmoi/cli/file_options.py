"""Options of a command in a file: its keys are their names, and a value is checked as one of the line is.

Place in the flow: `serve_file.py` reads `[server]` so. Read next: `serve_file.py`.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from malmoi.core.errors import ConfigError


def read_options(
    given: Mapping[str, Any], params: Iterable[click.Parameter], *, path: Path, where: str
) -> dict[str, Any]:
    """The values for a command with `params`, by the names of its arguments: what click's `default_map` takes.

    A path is relative to the file `path`. Raises ConfigError that begins with `where`.
    """
    known = {_key(param): param for param in params if _is_setting(param)}
    require_known(given, known, where=where)
    return {
        str(known[key].name): _option(known[key], value, path, where=f"{where}.{key}")
        for key, value in given.items()
    }


def require_known(keys: Iterable[str], known: Iterable[str], *, where: str) -> None:
    """Raises ConfigError for a key that is not known, with the nearest one."""
    for key in keys:
        if key not in (names := list(known)):
            near = get_close_matches(key, names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{where}: unknown key {key!r}.{hint} Valid keys: {', '.join(names)}.")


def _is_setting(param: click.Parameter) -> bool:
    return isinstance(param, click.Option) and _key(param) not in ("config", "model", "help")


def _key(param: click.Parameter) -> str:
    """An option as a key: `--api-key-file` is api_key_file."""
    return max(param.opts, key=len).lstrip("-").replace("-", "_")


def _option(param: click.Parameter, value: Any, path: Path, *, where: str) -> Any:
    """A value as the command would read it from its line. Raises ConfigError for one of another type."""
    if param.multiple:
        if not isinstance(value, list):
            raise ConfigError(f"{where} must be a list, but is {value!r}. Write several in brackets.")
        return [_single(param, one, path, where=where) for one in value]
    return _single(param, value, path, where=where)


def _single(param: click.Parameter, value: Any, path: Path, *, where: str) -> Any:
    kinds: tuple[type, ...] = (str,)
    if isinstance(param.type, click.types.BoolParamType):
        kinds = (bool,)
    elif isinstance(param.type, click.types.IntParamType):
        kinds = (int,)
    elif param.type.name in ("size", "span"):
        kinds = (str, int, float)
    if type(value) not in kinds:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ConfigError(f"{where} must be of the type {names}, but is {value!r}.")
    if isinstance(param.type, click.Path):
        return str(path.parent / value)
    try:
        param.type.convert(value, param, None)
    except click.BadParameter as problem:
        raise ConfigError(f"{where}: {problem.message}") from None
    return value
