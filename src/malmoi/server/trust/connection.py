"""A connection, and how long a client may do nothing on it: uvicorn's protocol, and what it lacks.

    too many connections            503, and closed at once
    the head of a request is slow   408
    it is no request                400
    an answer is not read           the connection is cut, and with it the request ends as if the client had left

uvicorn closes a connection that is idle behind an answer; one that has not asked yet it would keep for ever (slow
loris), and one that reads nothing as well. Place in the flow: `listen.py` gives it to uvicorn. Read next: `limits.py`,
what holds for a request.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from malmoi.server.errors import ServerError, described

_LINGER_SECONDS = 2.0
"""So long a refusal may take to be read."""
_MAX_AHEAD = 2**16
"""Bytes of later requests that are kept until it is their turn. Whoever sends more is not heard when he leaves: what he
has begun goes on to its end."""


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """What a connection may do.

    `max_connections`: open at once. `head_seconds`: from the connection, or from the first byte, to the end of a
    request's head. `max_stall`: so long an answer may wait to be read, in seconds; what waits is 64 KiB here, and what
    the system keeps.
    """

    max_connections: int = 512
    head_seconds: float = 10.0
    max_stall: float = 30.0


class Config(uvicorn.Config):
    """That of uvicorn for connections with `limits`."""

    def __init__(self, app: Any, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(app, http=Connection, ws="none", **options)
        self.limits = limits


class Connection(H11Protocol):
    """uvicorn's for HTTP/1.1, with the limits of its config."""

    def __init__(self, config: Config, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        self._limits = config.limits
        self._head, self._reader = Alarm(self.loop), Alarm(self.loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        most = self._limits.max_connections
        if len(self.connections) > most:
            reason = f"{most} connections are open, the most at once. Try again later."
            self._refuse(reason, 503, retry_after=1)
        else:
            self._head.set(self._limits.head_seconds, self._too_slow)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before and not self.flow.write_paused and not self.transport.is_closing():
            self._reader.cancel()  # it was about the answer before
        if self.cycle is not None and not self.cycle.response_complete:
            self._head.cancel()
        elif not self._head.is_set:
            self._head.set(self._limits.head_seconds, self._too_slow)
        self._hear_the_end()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader.set(self._limits.max_stall, self._give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reader.cancel()

    def on_response_complete(self) -> None:
        before = self.cycle
        super().on_response_complete()  # which may begin with the next
        # Else uvicorn closes it soon, and closing waits for the reader.
        if self.cycle is before and self.transport.get_write_buffer_size():
            self._reader.set(self._limits.max_stall, self._give_up)

    def send_400_response(self, msg: str) -> None:
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()
        else:
            self._refuse("this is no HTTP/1.1, or its head has more than 16 KiB. Send a shorter one.", 400)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._head.cancel()
        self._reader.cancel()

    def _hear_the_end(self) -> None:
        """Read on, though the next request has come before its turn: who goes away is else not noticed."""
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            return
        if self.flow.read_paused and len(self.conn.trailing_data[0]) <= _MAX_AHEAD:
            self.flow.resume_reading()

    def _give_up(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _too_slow(self) -> None:
        if self.cycle is not None and self.cycle.more_body:  # the rest of what was refused, and answered
            self.transport.close()
        else:
            seconds = self._limits.head_seconds
            self._refuse(f"the head of a request did not come within {seconds:g} s. Send it again.", 408)

    def _refuse(self, reason: str, status: int, *, retry_after: int | None = None) -> None:
        """Say why, and close; a client that does not read it is not waited for."""
        error = ServerError(reason, status=status, retry_after=retry_after)
        body = json.dumps(described(error)[1]).encode()
        fields = {**error.headers, "Content-Type": "application/json", "Content-Length": str(len(body))}
        head = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{k}: {v}" for k, v in fields.items())]
        self.transport.write("\r\n".join([*head, "Connection: close", "", ""]).encode() + body)
        self.transport.close()
        self._reader.set(_LINGER_SECONDS, self.transport.abort)


class Alarm:
    """Something that is done later, unless it is cancelled or set anew before."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        return self._timer is not None

    def set(self, seconds: float, act: Callable[[], None]) -> None:
        """Do `act` in so many seconds, and what was set before not at all (mutates the alarm)."""
        self.cancel()
        self._timer = self._loop.call_later(seconds, act)

    def cancel(self) -> None:
        """Do nothing any more (mutates the alarm)."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
