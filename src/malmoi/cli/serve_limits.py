"""The options of `malmoi serve` about strangers: how much they may ask for, from where, and what is fetched for them.

    options -> ServeLimits: what `server`, its connections and the models take | limit_options

What they mean is said in `docs/serve.md`. Read next: `serve.py`; `malmoi/server/trust/limits.py`.
"""

import ipaddress
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from malmoi.cli.option_group import option_group

if TYPE_CHECKING:
    from malmoi.llm import LLM, TextEncoder
    from malmoi.llm.transcribe import Transcriber
    from malmoi.server.trust.connection import ConnectionLimits

_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[^/?#@\s]+")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")


class _Origin(click.ParamType[str]):
    """Where a page comes from, as browsers write it: `https://chat.example`, with a port if it is not the usual one."""

    name = "origin"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        origin = str(value).lower()  # as browsers write it
        if not _ORIGIN.fullmatch(origin):
            self.fail(
                f"{value!r} is no origin. Write it as https://HOST, without a path, or '*'.", param, ctx
            )
        return origin


class _Host(click.ParamType[str]):
    """The name of a machine, or its address, and nothing around it."""

    name = "host"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        host = str(value).lower()  # names have no case
        if not _HOST.fullmatch(host) and not _is_ipv6(host):
            self.fail(
                f"{value!r} is no host. Write its name alone, without https://, a port or a path.", param, ctx
            )
        return host


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


OPTIONS = (
    click.option(
        "--allow-host",
        "hosts",
        type=_Host(),
        multiple=True,
        metavar="NAME",
        help="A name that others have for this server, such as its proxy's; may be given several times. "
        "[default: any, but for this machine alone: its own]",
    ),
    click.option(
        "--max-requests",
        default=256,
        show_default=True,
        type=click.IntRange(min=1),
        metavar="N",
        help="At once; others get 429.",
    ),
    click.option(
        "--max-connections",
        default=512,
        show_default=True,
        type=click.IntRange(min=1),
        metavar="N",
        help="Open at once; others get 503.",
    ),
    click.option(
        "--rate",
        type=click.IntRange(min=1),
        metavar="N",
        help="Requests a minute of each key, or of each address where no key is asked for. [default: any]",
    ),
    click.option(
        "--cors",
        "origins",
        type=_Origin(),
        multiple=True,
        metavar="ORIGIN",
        help="Let pages of this origin use the API; may be given several times. '*', all, needs keys.",
    ),
    click.option(
        "--max-image-pixels",
        type=click.IntRange(min=1),
        metavar="N",
        help="Of an image, before it is decoded. [default: 64,000,000]",
    ),
    click.option(
        "--allow-remote-host",
        "remote_hosts",
        type=_Host(),
        multiple=True,
        metavar="HOST",
        help="Fetch images and sounds over https from this host, if a request says so; may be given several times. "
        "[default: nothing is fetched]",
    ),
    click.option(
        "--drain-seconds",
        default=30,
        show_default=True,
        type=click.IntRange(min=0),
        metavar="N",
        help="So long answers that are on their way have to end after SIGTERM or Ctrl-C.",
    ),
    click.option("--log-prompts", "logs_prompts", is_flag=True, help="Write what is asked to the log."),
)


@dataclass(frozen=True, kw_only=True)
class ServeLimits:
    """What `OPTIONS` say."""

    hosts: tuple[str, ...]
    max_requests: int
    max_connections: int
    rate: int | None
    origins: tuple[str, ...]
    max_image_pixels: int | None
    remote_hosts: tuple[str, ...]
    drain_seconds: int
    logs_prompts: bool

    def of_requests(self) -> dict[str, Any]:
        """Fields of `ServerSettings`."""
        return {name: getattr(self, name) for name in ("max_requests", "rate", "origins", "logs_prompts")}

    def of_connections(self) -> "ConnectionLimits":
        """What a connection may do."""
        from malmoi.server.trust.connection import ConnectionLimits

        return ConnectionLimits(max_connections=self.max_connections)

    def applied(self, model: "LLM | TextEncoder | Transcriber") -> "LLM | TextEncoder | Transcriber":
        """The model, which takes no other images and sounds than these options allow (mutates it)."""
        from malmoi.llm import LLM
        from malmoi.llm.media import MediaPolicy
        from malmoi.media.remote import RemoteMedia

        if isinstance(model, LLM):
            model.builder.media.policy = MediaPolicy(
                fetch=RemoteMedia(self.remote_hosts) if self.remote_hosts else None,
                **({} if self.max_image_pixels is None else {"max_image_pixels": self.max_image_pixels}),
            )
        return model

    def write_prompts(self) -> None:
        """Have what is asked written to the error stream, if so it is wanted (mutates the logger)."""
        if self.logs_prompts:
            from malmoi.server.trust.logged import LOGGER

            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
            logging.getLogger(LOGGER).addHandler(handler)
            logging.getLogger(LOGGER).setLevel(logging.INFO)


limit_options = option_group(OPTIONS, ServeLimits, argument="limits")
"""Adds `OPTIONS` to a click command, which gets them as one argument, `limits`."""
