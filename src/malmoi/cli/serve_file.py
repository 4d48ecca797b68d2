"""The file of `malmoi serve --config`: which models, where they run, how long they stay, and the command's own options.

    serve.toml -> ServeFile: [server], options of the command by their names | [models.NAME], a table of three kinds

A key that is not known, or a value of another type, is an error that names both. `docs/serve.toml` is an example of
everything. Place in the flow: `serve.py` reads it before its other options. Read next: `serve_models.py`.
"""

import math
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import click

from malmoi.cli.engine import EngineSettings
from malmoi.cli.file_options import read_options, require_known
from malmoi.core.config import from_mapping
from malmoi.core.errors import ConfigError
from malmoi.core.files import read_text
from malmoi.core.quantities import read_seconds, read_size
from malmoi.server.catalogue.price import Price

_READ = {
    "cache_bytes": read_size,
    "timeout": read_seconds,
    "connect_timeout": read_seconds,
    "keep": read_seconds,
}
"""Values that may be written with a unit."""
_KEYS = {"key", "api_key", "token"}
_OF_ROUTED = ("weak", "strong", "router", "rules")


@dataclass(frozen=True, kw_only=True)
class LocalTable(EngineSettings):
    """A model in this process: `path`, none for the one that ships with Malmoi, how long it stays, what it costs.

    `keep` is in seconds; infinite: always. What is left out of the engine's settings is as on the command line.
    """

    dtype: Literal["bf16", "fp32", "int8", "int4"] | None = None
    cache_dtype: Literal["int8"] | None = None
    path: str | None = None
    keep: float | None = None
    price: Price | None = None


@dataclass(frozen=True, kw_only=True)
class UpstreamTable:
    """A model of another machine. Its key is in the variable `key_env` of the environment, or in `key_file`."""

    upstream: str
    model: str
    key_env: str | None = None
    key_file: Path | None = None
    timeout: float = 120.0
    connect_timeout: float = 5.0
    retries: int = 2
    accepts: tuple[str, ...] = ()
    context_length: int | None = None
    price: Price | None = None

    def key(self) -> str:
        """The key itself, or an empty text. Raises ConfigError if it is not where it should be."""
        if self.key_env is not None and self.key_file is not None:
            raise ConfigError("key_env and key_file are given together, and a model has one key. Give one.")
        if self.key_file is not None:
            return _key(read_text(self.key_file, error=ConfigError), where=str(self.key_file))
        if self.key_env is None:
            return ""
        if not os.environ.get(self.key_env):
            raise ConfigError(
                f"the variable {self.key_env} is not set, and key_env says that a key is there. Set it."
            )
        return _key(os.environ[self.key_env], where=f"the variable {self.key_env}")


@dataclass(frozen=True, kw_only=True)
class RoutedTable:
    """One of the others for each request; what its keys mean, `malmoi/server/catalogue/routed.py` says."""

    mapping: Mapping[str, object]
    where: str


ModelTable = LocalTable | UpstreamTable | RoutedTable


@dataclass(frozen=True)
class ServeFile:
    """What a file says: raw values of the command's options, and raw tables of models."""

    path: Path
    options: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]

    def table(self, name: str, settings: EngineSettings) -> ModelTable:
        """What is said of a model; `settings` are those of the command line.

        Raises ConfigError that names the file, the key and the nearest one, or what is wrong with a value.
        """
        where = f"{self.path}: models.{name}"
        given = {key: self._value(where, key, value) for key, value in self.models[name].items()}
        places = [key for key in ("path", "upstream", *_OF_ROUTED) if key in given]
        kinds = {"routed" if key in _OF_ROUTED else key for key in places}
        if len(kinds) > 1:
            raise ConfigError(
                f"{where} has both {places[0]} and {places[-1]}. A model is in one place: give one."
            )
        if kinds == {"routed"}:
            if isinstance(router := given.get("router"), str):
                given["router"] = str(self.path.parent / router)
            return RoutedTable(mapping=given, where=where)
        if kinds == {"upstream"}:
            if isinstance(file := given.get("key_file"), str):
                given["key_file"] = self.path.parent / file
            return from_mapping(UpstreamTable, given, where=where)
        for key in ("path", "speculation"):
            if isinstance(said := given.get(key), str) and (self.path.parent / said).exists():
                given[key] = str(self.path.parent / said)  # else it is an id of a hub
        common = {field.name: getattr(settings, field.name) for field in fields(EngineSettings)}
        return from_mapping(LocalTable, common | given, where=where)

    @staticmethod
    def _value(where: str, key: str, value: Any) -> Any:
        if key in _KEYS:
            raise ConfigError(
                f"{where} has a key of the API in {key!r}. Files are read by others: put it into the environment, and "
                'write key_env = "ITS_VARIABLE", or into a file of its own, and write key_file.'
            )
        if key == "keep" and value == "always":
            return math.inf
        if key in _READ and isinstance(value, str):
            try:
                return _READ[key](value)
            except ValueError as problem:
                raise ConfigError(f"{where}.{key}: {problem}") from None
        return value


def _key(text: str, *, where: str) -> str:
    """The one word that is a key. Raises ConfigError, which does not quote it, for anything else."""
    key = text.strip()
    if key.split() != [key] or not (key.isascii() and key.isprintable()):
        raise ConfigError(f"{where} does not hold one key, in ASCII. Write it there, and nothing else.")
    return key


def read_serve_file(path: Path, params: Iterable[click.Parameter]) -> ServeFile:
    """Read a file, with options of a command that has `params`.

    Raises ConfigError for what is no TOML, and for what is not known in it. Relative paths are relative to the file.
    """
    try:
        found = tomllib.loads(read_text(path, error=ConfigError))
    except tomllib.TOMLDecodeError as problem:
        raise ConfigError(f"{path} is no TOML: {problem}.") from None
    require_known(found, ("server", "models"), where=str(path))
    for name in ("server", "models"):
        if not isinstance(found.setdefault(name, {}), dict):
            raise ConfigError(f"{path}: {name} is no table. Write [{name}].")
    for name, table in found["models"].items():
        if not isinstance(table, dict) or not name:
            raise ConfigError(f"{path}: models.{name} is no table with a name. Write [models.NAME].")
    options = read_options(found["server"], params, path=path, where=f"{path}: server")
    return ServeFile(path, options, found["models"])
