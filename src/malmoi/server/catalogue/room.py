"""Memory for models: who has a place in it, who waits for one, and who has to leave for that.

    a request -> LocalModel.serving -> ROOM.enter: who was used longest ago leaves, and never one that answers

Place in the flow: the catalogue has one `Room` for all of its models. Read next: `local.py`, who lives there;
`holds.py`, how long a request needs a model.
"""

import asyncio
import logging
from abc import ABC, abstractmethod

from malmoi.core.quantities import memory
from malmoi.server.errors import ServerError

PATIENCE = 60.0
"""Seconds that a request waits for a place."""
TOO_LARGE = "model_too_large"
"""The code of the error for a model that will never have room."""
_RETRY_AFTER = 5

_log = logging.getLogger("malmoi.server")


class Tenant(ABC):
    """What takes memory as long as it is there.

    Attributes:
        name: what it is called in the log.
        num_bytes: how much; 0 while it is not there.
        num_users: requests that need it, or wait until it is there.
        last_used: when it was, by the clock of the event loop.
        is_staying: it is never made to leave.
        is_leaving: somebody waits for its place, so new requests wait as well.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.num_bytes = self.num_users = 0
        self.last_used = 0.0
        self.is_staying = self.is_leaving = False

    @property
    @abstractmethod
    def is_movable(self) -> bool:
        """Whether it could leave at once: nobody uses it, and nothing is under way."""

    @property
    @abstractmethod
    def is_going(self) -> bool:
        """Whether it leaves of its own accord, so that its memory will be free in a moment."""

    @abstractmethod
    async def leave(self) -> None:
        """Give the memory back. Requests that come meanwhile wait for the end."""


class Room:
    """Room for models of so many bytes together; None: as many as are asked for.

    Whoever waits is served in the order of coming. The models whose place is wanted answer what they were asked before,
    and new requests for them wait their turn in the same line, so two models that fit one at a time take turns, and
    neither starves. Nobody waits longer than `patience` seconds.
    """

    def __init__(self, num_bytes: int | None = None, *, patience: float = PATIENCE) -> None:
        self.limit, self.patience = num_bytes, patience
        self._tenants: list[Tenant] = []
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def num_bytes(self) -> int:
        """Of all that are there, or on their way in."""
        return sum(tenant.num_bytes for tenant in self._tenants)

    async def enter(self, tenant: Tenant, num_bytes: int, end: float) -> None:
        """Give `tenant` a place of so many bytes; others leave for it (mutates them). `end` is by the loop's clock.

        Raises ServerError (503) if it could never have that much, or did not get it in time.
        """
        self._check(tenant, num_bytes)
        try:
            async with asyncio.timeout_at(end):
                await self._turn.acquire()
        except TimeoutError:
            raise self.full() from None
        try:
            while leaving := self._in_the_way(num_bytes):
                for one in self._tenants:
                    one.is_leaving = one in leaving
                if not tenant.num_users:
                    raise self.full()  # to nobody: whoever asked has gone
                if movable := [one for one in leaving if one.is_movable]:
                    await self.vacate(movable[0])
                else:
                    await self.change(end)
            tenant.num_bytes = num_bytes
            self._tenants.append(tenant)
        finally:
            for one in self._tenants:
                one.is_leaving = False
            self._turn.release()
            self.tell()

    async def vacate(self, tenant: Tenant) -> None:
        """Let one leave (mutates it), and others have its place. What goes wrong with that is in the log alone."""
        try:
            await tenant.leave()
        except asyncio.CancelledError:
            raise
        except BaseException:  # noqa: BLE001  # no fault of those that wait for its place, be it a panic in Rust
            _log.exception("the model %r has left, but not in order", tenant.name)
        finally:
            self.forget(tenant)

    def forget(self, tenant: Tenant) -> None:
        """That one has left, or did not come after all (mutates it)."""
        tenant.num_bytes, tenant.is_leaving = 0, False
        if tenant in self._tenants:
            self._tenants.remove(tenant)
        self.tell()

    def tell(self) -> None:
        """Wake those that wait for a `change`."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self, end: float) -> None:
        """Wait until something has changed. Raises ServerError (503) at `end`, by the clock of the event loop."""
        try:
            async with asyncio.timeout_at(end):
                await self._changed.wait()
        except TimeoutError:
            raise self.full() from None

    def end_of_patience(self) -> float:
        """Until when who comes now may wait."""
        return asyncio.get_running_loop().time() + self.patience

    def full(self) -> ServerError:
        """That others needed their models for too long."""
        return ServerError(
            f"other models were needed for {self.patience:g} s, and there is no room beside them. Try again later.",
            status=503,
            code="no_room",
            retry_after=_RETRY_AFTER,
        )

    def _in_the_way(self, num_bytes: int) -> list[Tenant]:
        """Who has to leave so that there are so many bytes.

        Those that go anyway first, then those nobody uses, then who was used longest ago.
        """
        if self.limit is None:
            return []
        excess = self.num_bytes + num_bytes - self.limit
        leaving = []
        for tenant in sorted(self._tenants, key=_last_to_leave):
            if excess > 0 and not tenant.is_staying:
                leaving.append(tenant)
                excess -= tenant.num_bytes
        return leaving

    def _check(self, tenant: Tenant, num_bytes: int) -> None:
        if self.limit is None:
            return
        taken = sum(one.num_bytes for one in self._tenants if one.is_staying and one is not tenant)
        if taken + num_bytes > self.limit:
            beside = f", of which {memory(taken)} belong to models that always stay" if taken else ""
            raise ServerError(
                f"this model takes about {memory(num_bytes)}, and the server has {memory(self.limit)} for "
                f"models{beside}. Use another, or start the server with more --memory.",
                status=503,
                code=TOO_LARGE,
            )


def _last_to_leave(tenant: Tenant) -> tuple[bool, bool, float]:
    return not tenant.is_going, not tenant.is_movable, tenant.last_used
