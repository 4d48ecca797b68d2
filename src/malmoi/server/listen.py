"""Listening: uvicorn, which says its address once it does, and ends in order.

Read next: `trust/connection.py`, `app.py`.
"""

import socket
from typing import Any

import uvicorn

from malmoi.server.trust.connection import Config, ConnectionLimits


class Server(uvicorn.Server):
    """A server that prints one URL when it is there."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            host, port, *_ = server.sockets[0].getsockname()
            print(f"http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)


def listen(
    app: Any,
    *,
    host: str,
    port: int,
    limits: ConnectionLimits,
    drain_seconds: int,
) -> None:
    """Serve `app` until SIGTERM or Ctrl-C, and then until what was asked is answered, or `drain_seconds` are over.

    From the signal on no connection is taken, and one that waits for a request is closed.
    """
    config = Config(
        app,
        limits,
        host=host,
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=drain_seconds,
    )
    Server(config).run()
