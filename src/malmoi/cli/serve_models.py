"""From the tables of a file, and `--model`, to the models of a server: an `Entry` for each. Read next: `serve.py`."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from malmoi.cli.engine import EngineSettings
from malmoi.cli.serve_file import LocalTable, ModelTable, RoutedTable, ServeFile, UpstreamTable
from malmoi.core.config import from_mapping
from malmoi.core.errors import ConfigError

if TYPE_CHECKING:
    from malmoi.server.catalogue.entry import Entry
    from malmoi.server.catalogue.loaded import Loaded


def tables_of(
    models: tuple[str, ...], file: ServeFile | None, settings: EngineSettings
) -> dict[str, ModelTable]:
    """What is said of each model, by the name that requests use: those of the command line first.

    Raises ConfigError for two of one name, and for one without, and for models that want different `threads`.
    """
    tables: dict[str, ModelTable] = {}
    common = {field.name: getattr(settings, field.name) for field in fields(EngineSettings)}
    for model in models:
        name, is_named, path = model.partition("=")
        if not is_named or Path(model).exists():  # a directory may be called lr=0.1
            name, path = Path(model).name or Path(model).resolve().name, model
        if not name or not path:
            raise ConfigError(f"--model {model} has no name, or no model. Write --model NAME=DIR.")
        if name in tables:
            raise ConfigError(f"two models are called {name!r}. Give one another name: --model NAME={path}.")
        tables[name] = LocalTable(path=path, **common)
    for name in () if file is None else file.models:
        if name in tables:
            raise ConfigError(f"--model and {file and file.path} both have a model {name!r}. Rename one.")
        tables[name] = file.table(name, settings)  # type: ignore[union-attr]  # there are no names without it
    tables = tables or {"default": LocalTable(**common)}
    _check_threads(tables)
    return tables


def entries_of(
    tables: Mapping[str, ModelTable],
    *,
    load: Callable[[str | None, EngineSettings], "Loaded"],
    keep: float | None,
) -> dict[str, "Entry"]:
    """The models that the tables speak of. `load` is given a path and the settings; `keep` is for those that say none.

    Raises ConfigError for a key that is not there, a router that cannot be read, or that names a model which is not.
    """
    return {name: _entry(name, table, tables, load=load, keep=keep) for name, table in tables.items()}


def _entry(
    name: str,
    table: ModelTable,
    tables: Mapping[str, ModelTable],
    *,
    load: Callable[[str | None, EngineSettings], "Loaded"],
    keep: float | None,
) -> "Entry":
    match table:
        case LocalTable():
            from malmoi.cli.loading import memory_of
            from malmoi.server.catalogue.local import LocalModel

            return LocalModel(
                name,
                table.path,
                load=lambda path: load(path, table),
                estimate=lambda path: memory_of(path, table),
                keep=keep if table.keep is None else table.keep,
                price=table.price,
            )
        case UpstreamTable():
            from malmoi.server.catalogue.upstream import Upstream, UpstreamSettings

            try:
                settings = UpstreamSettings(
                    url=table.upstream,
                    model=table.model,
                    key=table.key(),
                    timeout=table.timeout,
                    connect_timeout=table.connect_timeout,
                    retries=table.retries,
                    accepts=table.accepts,
                    context_length=table.context_length,
                )
            except ConfigError as error:
                raise ConfigError(f"models.{name}: {error}") from None
            return Upstream(name, settings, price=table.price)
        case RoutedTable():
            from malmoi.server.catalogue.routed import Routed, RoutedSettings

            routed = from_mapping(RoutedSettings, table.mapping, where=table.where)
            for one in sorted(routed.names):
                if one not in tables or isinstance(tables[one], RoutedTable):
                    others = ", ".join(
                        other for other in tables if not isinstance(tables[other], RoutedTable)
                    )
                    raise ConfigError(
                        f"{table.where} chooses {one!r}, which is no model here. There are: {others}."
                    )
            return Routed(routed)


def _check_threads(tables: Mapping[str, ModelTable]) -> None:
    """PyTorch has one number for a process, and what computes takes it when it begins to: that of the last load."""
    said = {name: table.threads for name, table in tables.items() if isinstance(table, LocalTable)}
    numbers = {number: name for name, number in said.items() if number is not None}
    if len(numbers) > 1:
        (first, one), (second, other), *_ = numbers.items()
        raise ConfigError(
            f"threads={first} of {one!r} and threads={second} of {other!r}: the number is the process's, and who was "
            "loaded last would decide. Say it once, in [server]."
        )
