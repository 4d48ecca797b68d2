"""A model in this process: loaded when it is first asked for, and gone when its memory is needed or nobody asks.

    absent -> loading -> there -> absent    kept for each request until its answer is sent (`holds.py`)

It is loaded once however many wait, and to the end even if they leave. One that cannot be loaded is an error for those
that wait for it, and is tried again for the next. Place in the flow: an `Entry` of the catalogue. Read next: `room.py`.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from traceback import clear_frames
from typing import Any

import torch

from malmoi.core.errors import MalmoiError
from malmoi.core.memory import give_back_freed_memory
from malmoi.llm import LLM
from malmoi.server.catalogue.entry import Entry
from malmoi.server.catalogue.holds import HOLDS
from malmoi.server.catalogue.loaded import Load, Loaded, LocalServing, about, bytes_of, kind_of, served
from malmoi.server.catalogue.measured import Measures
from malmoi.server.catalogue.price import Price
from malmoi.server.catalogue.room import TOO_LARGE, Room, Tenant
from malmoi.server.errors import ServerError

ALWAYS = math.inf
"""To keep a model so long is to let it never leave, once it is there."""
MOST_SECONDS = 10 * 365 * 24 * 3600.0
"""To keep a model longer than these ten years is `ALWAYS`: neither clocks nor calendars go on for ever."""

_log = logging.getLogger("malmoi.server")


class LocalModel(Entry, Tenant):
    """A model that `load` brings into this process.

    Args:
        name: what it is called in the log and in errors.
        path: a directory or a hub id; None: the model that ships with Malmoi.
        load: makes the model of the path, in a thread.
        estimate: how many bytes that will take, asked before a load where room is limited.
        keep: seconds that it stays when nobody uses it; None: until its place is needed; `ALWAYS`: even then.
        price: what its tokens cost.

    Attributes:
        there: the model, while it is in this process.
        loaded_at: since when, in seconds since 1970.
        num_loads: how often it was loaded.

    >>> model = LocalModel("default", None, load=lambda path: malmoi.load(path))
    >>> model.is_ready, model.described()["loaded"]
    (False, False)
    """

    def __init__(
        self,
        name: str,
        path: str | None,
        *,
        load: Load,
        estimate: Callable[[str | None], int] = lambda path: 0,
        keep: float | None = None,
        price: Price | None = None,
    ) -> None:
        super().__init__(name)
        self.path, self.price = path, price
        self.room = Room()
        self.there: Loaded | None = None
        self.loaded_at: float | None = None
        self._keep = self._configured = None if keep is None else _bounded(keep)
        self.is_staying = self._keep == ALWAYS
        self._load, self._estimate = load, estimate
        self._serving: LocalServing | None = None
        self._loading: asyncio.Task[None] | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._failure: tuple[str, str] | None = None  # message and code of the last try's
        self.num_loads = 0

    @property
    def is_ready(self) -> bool:
        if self._failure is not None:
            raise self._error()
        return self.num_loads > 0  # one that has left comes back

    @property
    def is_loaded(self) -> bool:
        return self.there is not None

    @property
    def is_movable(self) -> bool:
        return self._serving is not None and not self.num_users and self._leaving is None

    @property
    def is_going(self) -> bool:
        return self._leaving is not None

    async def serving(self) -> LocalServing:
        holds = HOLDS.get()
        if holds is not None and self in holds:
            assert self._serving is not None, "what is held stays"
            return self._serving
        serving = await self._taken()
        if holds is None:
            self._give_back()
        else:
            holds.add(self, self._give_back)
        return serving

    @property
    def leaves_at(self) -> float | None:
        """When it will if nobody comes, in seconds since 1970; None: it stays."""
        if self._idle is None:
            return None
        return time.time() + self._idle.when() - asyncio.get_running_loop().time()

    def keep(self, seconds: float | None) -> None:
        """Stay for so many seconds when nobody uses it; less than 0: until its place is needed; None: as configured.

        One that its owner keeps always stays, whatever a request says.
        """
        if self.is_staying:
            return
        self._keep = self._configured if seconds is None else _bounded(seconds)
        if self.is_movable:
            self._wait_for_nobody()

    def described(self) -> dict[str, Any]:
        if self.there is None or self.loaded_at is None:
            return super().described()
        return super().described() | about(self.there) | {"loaded_at": int(self.loaded_at)}

    async def leave(self) -> None:
        serving, self._serving, self.there, self.loaded_at = self._serving, None, None, None
        if serving is None:
            return
        try:
            await serving.close()
        except BaseException as error:
            clear_frames(error.__traceback__)  # they hold the model
            raise
        finally:
            del serving
            await asyncio.to_thread(give_back_freed_memory)
            torch.cuda.empty_cache()  # PyTorch would keep a GPU's memory for the next model of this process
        _log.info("the model %r has left", self.name)

    async def close(self) -> None:
        tasks = [task for task in (self._loading, self._leaving) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._no_timer()
        await self.leave()

    async def _taken(self) -> LocalServing:
        """The model, which stays until `_give_back`."""
        end = self.room.end_of_patience()
        while self.is_leaving or self._leaving is not None:
            await self.room.change(end)
        self.num_users += 1
        self._no_timer()
        try:
            if self._serving is None:
                # How one that is done has ended was told to others, or to nobody.
                if self._loading is None or self._loading.done():
                    self._loading = asyncio.create_task(self._bring(end))
                    self._loading.add_done_callback(self._brought)
                await asyncio.shield(self._loading)
            assert self._serving is not None, "it has been brought"
            return self._serving
        except BaseException:
            self._give_back()
            raise

    def _give_back(self) -> None:
        self.num_users -= 1
        self.last_used = asyncio.get_running_loop().time()
        if self.is_movable:
            self._wait_for_nobody()
        self.room.tell()

    async def _bring(self, end: float) -> None:
        try:
            num_bytes = 0 if self.room.limit is None else await asyncio.to_thread(self._estimate, self.path)
            await self.room.enter(self, num_bytes, end)
            loaded = await asyncio.to_thread(self._load, self.path)
            if isinstance(loaded, LLM):
                self.measures = self.measures or Measures()
            serving, num_bytes = served(loaded, self.measures), bytes_of(loaded)
        except asyncio.CancelledError:
            raise
        except ServerError as error:
            if error.code == TOO_LARGE:
                _log.error("the model %r cannot be loaded: %s", self.name, error)
                self._failure = str(error), error.code
            raise
        except BaseException as error:  # its files may be wrong in any way; a panic in Rust is no Exception
            unforeseen = None if isinstance(error, MalmoiError) else error
            _log.error("the model %r cannot be loaded: %s", self.name, error, exc_info=unforeseen)
            # Why is in the log: which files there are is no stranger's business.
            self._failure = (
                f"the model {self.name!r} cannot be loaded; the server's log says why. Use another, or ask again once "
                "that is mended.",
                "model_not_loaded",
            )
            raise self._error() from error
        else:
            self._failure = None
            self.num_loads += 1
            self.there, self._serving, self.kind = loaded, serving, kind_of(loaded)
            self.num_bytes, self.loaded_at = num_bytes, time.time()
            self.last_used = asyncio.get_running_loop().time()
        finally:
            if not self.is_loaded:
                self.room.forget(self)

    def _brought(self, task: asyncio.Task[None]) -> None:
        if self._loading is task:
            self._loading = None
        if not task.cancelled():
            task.exception()  # it was told to whoever still waited
        if self.is_movable:  # nobody did
            self._wait_for_nobody()
        self.room.tell()

    def _wait_for_nobody(self) -> None:
        """Leave when nobody has come for `keep` seconds."""
        self._no_timer()
        if self._keep is not None and 0 <= self._keep < ALWAYS:
            self._idle = asyncio.get_running_loop().call_later(self._keep, self._nobody_came)

    def _nobody_came(self) -> None:
        if self.is_movable:  # also if somebody waits for its place, who may give up
            self._leaving = asyncio.create_task(self.room.vacate(self))
            self._leaving.add_done_callback(self._left)

    def _left(self, _: object) -> None:
        self._leaving = None
        self.room.tell()

    def _no_timer(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _error(self) -> ServerError:
        assert self._failure is not None, "the last try was in vain"
        message, code = self._failure
        return ServerError(message, status=503, code=code)


def _bounded(seconds: float) -> float:
    return ALWAYS if seconds > MOST_SECONDS else seconds
