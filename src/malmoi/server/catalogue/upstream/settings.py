"""Where a model of another machine is, and how patiently it is asked: `UpstreamSettings`. Read next: `upstream.py`."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from malmoi.core.errors import ConfigError

ANYTHING = "anything"
"""As `UpstreamSettings.accepts`: every parameter is known there."""


@dataclass(frozen=True, kw_only=True)
class UpstreamSettings:
    """An OpenAI-compatible URL.

    Attributes:
        url: up to and with the version: `https://openrouter.ai/api/v1`.
        model: what the model is called there.
        key: sent as `Authorization: Bearer`; none if it is empty. It is never shown.
        timeout: seconds that it may be silent.
        connect_timeout: seconds until a connection has to be there.
        retries: how often a request is sent again that was not answered.
        accepts: parameters besides OpenAI's that are known there, such as ("top_k",), or (`ANYTHING`,). Another Malmoi
            says itself that it is one.
        context_length: of the model there, if somebody knows.

    Raises ConfigError for a URL of another kind, or one that has a name and a password in it.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout: float = 120.0
    connect_timeout: float = 5.0
    retries: int = 2
    accepts: tuple[str, ...] = ()
    context_length: int | None = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            is_url = parts.port is None or parts.port > 0
        except ValueError:
            raise ConfigError(
                "upstream is no URL: its host or its port is none. Write https://host/v1."
            ) from None
        if parts.username is not None or (not parts.hostname and "@" in self.url):
            raise ConfigError("upstream has a password in its URL. Use key_env or key_file.")
        is_url = is_url and parts.scheme in ("http", "https") and bool(parts.hostname)
        if not is_url or parts.query or parts.fragment:
            raise ConfigError(
                f"upstream={self.url!r} is no URL of an API. Write one such as https://host/v1."
            )
        for name, least in (("timeout", 0), ("connect_timeout", 0), ("retries", -1)):
            if getattr(self, name) <= least:
                raise ConfigError(f"{name}={getattr(self, name)} is too little. Give more than {least}.")
