"""`malmoi serve`: a page to talk on and an API for programs, on one port. Read next: `malmoi.server.app`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from malmoi.cli.engine import EngineSettings, Size, Span, engine_options
from malmoi.cli.serve_file import ServeFile, read_serve_file
from malmoi.cli.serve_limits import ServeLimits, limit_options
from malmoi.cli.serve_models import entries_of, tables_of
from malmoi.core.errors import ConfigError, DataError
from malmoi.core.files import read_text

if TYPE_CHECKING:
    from malmoi.server.catalogue.loaded import Loaded

KEYS_VARIABLE = "MALMOI_API_KEYS"


def _use_file(ctx: click.Context, param: click.Parameter, path: Path | None) -> ServeFile | None:
    """Take what a file says of the command's options as what they are by default (mutates the context)."""
    if path is None:
        return None
    file = read_serve_file(path, ctx.command.params)
    ctx.default_map = dict(file.options)
    return file


@click.command(short_help="Serve models: a chat page and an API. 대화 페이지와 API를 엽니다.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen. Others than this machine need keys.",
)
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any that is free."
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="[NAME=]DIR|HUB_ID",
    help="A model, and what to call it; may be given several times. [default: the one that ships with Malmoi]",
)
@click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    is_eager=True,
    callback=_use_file,
    help="Models and options in a file of TOML; what the command line says comes first.",
)
@click.option(
    "--memory",
    type=Size(),
    metavar="SIZE",
    help="For all models of this process together, weights and caches, such as 16G. [default: any]",
)
@click.option(
    "--idle",
    type=Span(),
    metavar="TIME",
    help="A model that nobody has used for so long leaves, such as 10m. [default: when its memory is needed]",
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help=f"Keys, one a line, of which every request has to bring one. Or in {KEYS_VARIABLE}, with spaces between.",
)
@click.option(
    "--without-key", is_flag=True, help="Let everybody in who can reach a host that is not this machine."
)
@limit_options
@engine_options
def serve(
    host: str,
    port: int,
    models: tuple[str, ...],
    file: ServeFile | None,
    memory: int | None,
    idle: float | None,
    api_key_file: Path | None,
    without_key: bool,
    limits: ServeLimits,
    settings: EngineSettings,
) -> None:
    """Serve models: a chat page, and an API that OpenAI's clients speak. 대화 페이지와 API를 엽니다.

    The page is at /, the API at /v1, its description at /docs. Ctrl-C ends it.
    """
    keys = _keys(api_key_file)
    from malmoi.server.trust.access import LOOPBACK

    if (host not in LOOPBACK or limits.hosts) and not keys and not without_key:
        raise ConfigError(
            f"{limits.hosts[0] if limits.hosts else f'host={host}'} can be reached from other machines, and no key is "
            "asked for. Give --api-key-file, or --without-key if everybody may come in."
        )
    if "*" in limits.origins and not keys:
        raise ConfigError(
            "--cors '*' lets every page in a browser use this server, and no key is asked for. Give --api-key-file, or "
            "name the origins."
        )
    from malmoi.cli.loading import load_any
    from malmoi.server.app import ServerSettings, create_app
    from malmoi.server.catalogue.catalogue import Catalogue
    from malmoi.server.catalogue.room import Room
    from malmoi.server.listen import listen

    def load(path: str | None, of_model: EngineSettings) -> "Loaded":
        return limits.applied(load_any(path, of_model))

    entries = entries_of(tables_of(models, file, settings), load=load, keep=idle)
    catalogue = Catalogue(entries, room=Room(memory))
    hosts = (*LOOPBACK, *limits.hosts) if host in LOOPBACK or limits.hosts else ()
    app = create_app(catalogue, ServerSettings(api_keys=keys, hosts=hosts, **limits.of_requests()))
    limits.write_prompts()
    listen(app, host=host, port=port, limits=limits.of_connections(), drain_seconds=limits.drain_seconds)


def _keys(file: Path | None) -> tuple[str, ...]:
    """Those of the file and of the environment. Raises DataError for a file without any."""
    keys = os.environ.get(KEYS_VARIABLE, "").split()
    if file is not None:
        of_file = read_text(file, error=DataError).split()
        if not of_file:
            raise DataError(f"{file} has no key. Write one a line.")
        keys += of_file
    return tuple(keys)
