"""`malmoi serve`: a page to talk on and an API for programs, on one port. Read next: `malmoi.server.app`."""

import os
from pathlib import Path

import click

from malmoi.cli.engine import EngineSettings, engine_options
from malmoi.core.errors import ConfigError, DataError
from malmoi.core.files import read_text

KEYS_VARIABLE = "MALMOI_API_KEYS"


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
    "--api-key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help=f"Keys, one a line, of which every request has to bring one. Or in {KEYS_VARIABLE}, with spaces between.",
)
@click.option(
    "--without-key", is_flag=True, help="Let everybody in who can reach a host that is not this machine."
)
@click.option(
    "--max-requests",
    default=256,
    show_default=True,
    type=click.IntRange(min=1),
    help="At once; others get 429.",
)
@engine_options
def serve(
    host: str,
    port: int,
    models: tuple[str, ...],
    api_key_file: Path | None,
    without_key: bool,
    max_requests: int,
    settings: EngineSettings,
) -> None:
    """Serve models: a chat page, and an API that OpenAI's clients speak. 대화 페이지와 API를 엽니다.

    The page is at /, the API at /v1, its description at /docs. Ctrl-C ends it.
    """
    keys = _keys(api_key_file)
    from malmoi.server.trust import LOOPBACK

    if host not in LOOPBACK and not keys and not without_key:
        raise ConfigError(
            f"host={host} can be reached from other machines, and no key is asked for. Give --api-key-file, or "
            "--without-key if everybody may come in."
        )
    from malmoi.cli.loading import load_any
    from malmoi.server.app import ServerSettings, create_app
    from malmoi.server.catalogue import Catalogue
    from malmoi.server.listen import listen

    catalogue = Catalogue(_named(models), load=lambda path: load_any(path, settings))
    hosts = tuple(LOOPBACK) if host in LOOPBACK else ()
    app = create_app(catalogue, ServerSettings(api_keys=keys, hosts=hosts, max_requests=max_requests))
    listen(app, host=host, port=port)


def _named(models: tuple[str, ...]) -> dict[str, str | None]:
    """By the name that requests use. Raises ConfigError for two of one name, and for one without."""
    named: dict[str, str | None] = {}
    for model in models:
        name, is_named, path = model.partition("=")
        if not is_named or Path(model).exists():  # a directory may be called lr=0.1
            name, path = Path(model).name or Path(model).resolve().name, model
        if not name or not path:
            raise ConfigError(f"--model {model} has no name, or no model. Write --model NAME=DIR.")
        if name in named:
            raise ConfigError(f"two models are called {name!r}. Give one another name: --model NAME={path}.")
        named[name] = path
    return named or {"default": None}


def _keys(file: Path | None) -> tuple[str, ...]:
    """Those of the file and of the environment. Raises DataError for a file without any."""
    keys = os.environ.get(KEYS_VARIABLE, "").split()
    if file is not None:
        of_file = read_text(file, error=DataError).split()
        if not of_file:
            raise DataError(f"{file} has no key. Write one a line.")
        keys += of_file
    return tuple(keys)
