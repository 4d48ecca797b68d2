"""One thread that computes, and the coroutines that wait for what comes of it.

    coroutine --- orders: begin, give up ---> the engine's thread: step, step, step
    coroutine <--- news: tokens, the end, an error --- once a step for all of them

The engine stays as it is and knows nothing of threads: all of its methods are called in the one thread. What computes
releases the interpreter's lock, so the loop goes on meanwhile. Read next: `async_engine.py`, what callers see.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from copy import copy
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, runtime_checkable

from malmoi.core.errors import RequestError


@runtime_checkable  # the test runner checks annotations
class Ending(Protocol):
    """What comes to its end some day: a generation, a vector."""

    @property
    def finish_reason(self) -> str | None: ...

    @property
    def error(self) -> str | None: ...


Asked = TypeVar("Asked")
Asked_contra = TypeVar("Asked_contra", contravariant=True)
Answer = TypeVar("Answer", bound=Ending)
Item = TypeVar("Item")
News = Sequence[Any] | Exception | None
"""More items; why there are no more; None: the end."""


@runtime_checkable
class Stepping(Protocol[Asked_contra, Answer]):
    """An engine: it is asked, and answers in steps."""

    def add(self, request: Asked_contra, /) -> Answer: ...

    def step(self) -> None: ...

    def abort(self, answer: Answer, /) -> None: ...


class EngineThread(Generic[Asked, Answer]):
    """An engine for coroutines of one event loop or several. Its thread starts with the first request.

    Whoever stops waiting, because its task was cancelled or its stream closed, ends its request. A request that is
    refused or fails says so to whoever asked, and to nobody else. If a step itself fails, which is no request's fault,
    each that waits gets a copy of its error, and the next request finds an engine that works. A panic of Rust comes as
    a RuntimeError, as does an error that cannot be copied.

    Nobody else may use `engine` until `close`, which ends what is still going on with a RequestError.

    Args:
        engine: what computes.
        family: an answer and what belongs to it; it is complete when all of them have ended.
    """

    def __init__(
        self, engine: Stepping[Asked, Answer], *, family: Callable[[Answer], Sequence[Answer]]
    ) -> None:
        self._engine, self._family = engine, family
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._calls: dict[_Call[Asked, Answer], Answer] = {}  # those that wait; only the thread looks
        self._thread: Thread | None = None
        self._is_closed = False
        self._lock = Lock()  # what loops in several threads share when they order and close

    async def close(self) -> None:
        """Stop the thread after the step that is running, and end what is going on."""
        with self._lock:
            self._is_closed = True
            self._orders.put(None)  # behind every request
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _complete(self, request: Asked) -> Answer:
        """The answer at its end."""
        call: _Call[Asked, Answer] = _Call(request, items=_no_items)
        self._order(partial(self._begin, call))
        try:
            await call.next()
        finally:
            self._orders.put(partial(self._end, call))
        assert call.answer is not None, "it has come to its end"
        return call.answer

    async def _follow(
        self, request: Asked, items: Callable[[Answer], Sequence[Item]]
    ) -> AsyncGenerator[Item, None]:
        """Yield the `items` of an answer, which become more and more, as they come."""
        call = _Call(request, items=items)
        self._order(partial(self._begin, call))
        try:
            while (news := await call.next()) is not None:
                for item in news:
                    yield item
        finally:
            self._orders.put(partial(self._end, call))

    def _order(self, order: Callable[[], None]) -> None:
        with self._lock:
            if self._is_closed:
                raise RequestError("this engine was closed. Make another.")
            if self._thread is None:
                thread = Thread(target=self._serve, name="malmoi-engine", daemon=True)
                thread.start()  # raises where the system has no more threads
                self._thread = thread
            self._orders.put(order)

    # --- in the thread ---------------------------------------------------------------------------------------

    def _serve(self) -> None:
        is_open = True
        while is_open:
            try:
                if is_open := self._obey():
                    self._engine.step()
                    self._tell()
            except BaseException as error:  # noqa: BLE001  # it is handed to those who wait
                self._end_all(partial(_copy_for_one, error))
        why = "the engine was closed before the answer was complete. Ask another."
        self._end_all(partial(RequestError, why))

    def _obey(self) -> bool:
        """Take all orders, waiting for one while there is nothing to compute; False: to stop."""
        while not self._calls or not self._orders.empty():
            order = self._orders.get()
            if order is None:
                return False
            order()
        return True

    def _begin(self, call: "_Call[Asked, Answer]") -> None:
        try:
            call.answer = self._calls[call] = self._engine.add(call.request)
        except Exception as error:  # noqa: BLE001  # as above
            call.tell(error)
        except BaseException as error:  # noqa: BLE001  # a panic of Rust is no Exception
            call.tell(_copy_for_one(error))

    def _end(self, call: "_Call[Asked, Answer]") -> None:
        if answer := self._calls.pop(call, None):
            for one in self._family(answer):
                self._engine.abort(one)

    def _end_all(self, new_error: Callable[[], Exception]) -> None:
        for call in list(self._calls):
            with suppress(BaseException):  # what cannot be given up is nobody's any more all the same
                self._end(call)
            call.tell(new_error())

    def _tell(self) -> None:
        """What the step has brought, in one message for each loop."""
        messages: dict[asyncio.AbstractEventLoop, list[tuple[_Call[Asked, Answer], News]]] = defaultdict(list)
        try:
            for call, answer in list(self._calls.items()):
                family = self._family(answer)
                if new := call.items(answer)[call.num_told :]:
                    call.num_told += len(new)
                    messages[call.loop].append((call, new))
                if all(one.finish_reason is not None for one in family):
                    failed = next((one.error for one in family if one.error is not None), None)
                    del self._calls[call]
                    messages[call.loop].append((call, None if failed is None else RequestError(failed)))
        finally:  # who is no longer among the calls would hear of nothing else
            for loop, message in messages.items():
                _send(loop, message)


class _Call(Generic[Asked, Answer]):
    """A request, and the coroutine that waits for it."""

    def __init__(self, request: Asked, *, items: Callable[[Answer], Sequence[Any]]) -> None:
        self.request, self.items = request, items
        self.answer: Answer | None = None
        self.num_told = 0
        self.loop = asyncio.get_running_loop()
        self.news: asyncio.Queue[News] = asyncio.Queue()

    async def next(self) -> Sequence[Any] | None:
        """What comes next. Raises what went wrong."""
        news = await self.news.get()
        if isinstance(news, Exception):
            raise news
        return news

    def tell(self, news: News) -> None:
        _send(self.loop, [(self, news)])


def _no_items(answer: object) -> Sequence[Any]:
    return ()


def _copy_for_one(error: BaseException) -> Exception:
    """A copy for one of many: the traceback of an object that all of them raise would grow with each.

    A RuntimeError instead of what is no Exception, which would end more than who waits. Never raises.
    """
    copied: object = None
    with suppress(BaseException):  # not every class can be made from its `args`
        copied = copy(error)
    if type(copied) is not type(error) or not isinstance(copied, Exception):
        message = type(error).__name__
        with suppress(BaseException):
            message = repr(error)
        copied = RuntimeError(message)
    copied.__cause__ = error
    return copied


def _send(loop: asyncio.AbstractEventLoop, message: Sequence[tuple[_Call[Any, Any], News]]) -> None:
    def deliver() -> None:
        for call, news in message:
            call.news.put_nowait(news)

    with suppress(RuntimeError):  # the loop was closed: nobody waits any more
        loop.call_soon_threadsafe(deliver)
