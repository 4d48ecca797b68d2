"""Listening: uvicorn, which says its address once it does. Read next: `app.py`, what it serves."""

import socket
from typing import Any

import uvicorn

DRAIN_SECONDS = 30
"""After SIGTERM or Ctrl-C, answers that are on their way have so long to end; no new request is taken."""


class Server(uvicorn.Server):
    """A server that prints one URL when it is there."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            host, port, *_ = server.sockets[0].getsockname()
            print(f"http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)


def listen(app: Any, *, host: str, port: int) -> None:
    """Serve `app` until SIGTERM or Ctrl-C, and then until what was asked is answered."""
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=DRAIN_SECONDS
    )
    Server(config).run()
