"""The engine behind an event loop: one thread computes, coroutines wait for what comes.

    coroutine --- orders: begin, give up ---> the engine's thread: step, step, step
    coroutine <--- news: tokens, the end, an error --- once a step for all of them

`Engine` stays as it is and knows nothing of threads: all of its methods are called in the one thread. What computes
releases the interpreter's lock, so the loop goes on meanwhile. Read next: `engine.py`.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread
from types import TracebackType

from malmoi.core.errors import RequestError
from malmoi.engine.engine import Engine
from malmoi.engine.request import Choice, Generation, Request

News = Sequence[Choice] | BaseException | None
"""More tokens; why there are no more; None: the end."""


class AsyncEngine:
    """An `Engine` for coroutines of one event loop or several. It starts with the first request.

    Whoever stops waiting, because its task was cancelled or its stream closed, ends its generation. A request that is
    refused or fails says so to whoever asked, and to nobody else. If a step itself fails, which is no request's fault,
    all that wait get its error, and the next request finds an engine that works.

    Nobody else may use `engine` until `close`, which ends what is still going on with a RequestError.

    >>> async with AsyncEngine(Engine(model)) as engine:                       # doctest: +SKIP
    ...     async for choice in engine.stream(Request(tokens=[5, 6, 7])):
    ...         print(choice.token)
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._calls: dict[_Call, Generation] = {}  # those that wait; only the engine's thread looks
        self._thread: Thread | None = None
        self._is_closed = False

    async def stream(self, request: Request) -> AsyncGenerator[Choice, None]:
        """Yield each token as soon as it is chosen. Wrap it in `contextlib.aclosing` if you may leave before its end.

        Raises RequestError if the request could never be served, for one of several answers (`n`), and behind the last
        token if no other could be chosen.
        """
        if request.params.n > 1:
            raise RequestError(f"n={request.params.n}, and a stream gives one answer. Use generate, or n=1.")
        call = _Call(request, has_tokens_at_once=True)
        self._order(partial(self._begin, call))
        try:
            while (news := await call.next()) is not None:
                for choice in news:
                    yield choice
        finally:
            self._orders.put(partial(self._end, call))

    async def generate(self, request: Request) -> Generation:
        """The generation at its end, and that of all its siblings. Raises RequestError as `stream` does."""
        call = _Call(request, has_tokens_at_once=False)
        self._order(partial(self._begin, call))
        try:
            await call.next()
        finally:
            self._orders.put(partial(self._end, call))
        assert call.generation is not None, "it has come to its end"
        return call.generation

    async def close(self) -> None:
        """Stop the thread after the step that is running, and end what is going on."""
        self._is_closed = True
        if self._thread is not None:
            self._orders.put(None)
            await asyncio.to_thread(self._thread.join)

    async def __aenter__(self) -> "AsyncEngine":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _order(self, order: Callable[[], None]) -> None:
        if self._is_closed:
            raise RequestError("this engine was closed. Make another.")
        if self._thread is None:
            self._thread = Thread(target=self._serve, name="malmoi-engine", daemon=True)
            self._thread.start()
        self._orders.put(order)

    # --- the engine's thread ---------------------------------------------------------------------------------

    def _serve(self) -> None:
        while self._obey():
            try:
                self._engine.step()
            except Exception as error:  # noqa: BLE001  # it is handed to those who wait
                self._end_all(error)
            self._tell()
        while not self._orders.empty():  # who ordered while it was being closed gets an answer, too
            if order := self._orders.get():
                order()
        self._end_all(RequestError("the engine was closed before the answer was complete. Ask another."))

    def _obey(self) -> bool:
        """Take all orders, waiting for one while there is nothing to compute; False: to stop."""
        while not self._calls or not self._orders.empty():
            order = self._orders.get()
            if order is None:
                return False
            order()
        return True

    def _begin(self, call: "_Call") -> None:
        try:
            call.generation = self._calls[call] = self._engine.add(call.request)
        except Exception as error:  # noqa: BLE001  # as above
            call.tell(error)

    def _end(self, call: "_Call") -> None:
        if generation := self._calls.pop(call, None):
            for one in (generation, *generation.siblings):
                self._engine.abort(one)

    def _end_all(self, error: Exception) -> None:
        for call in list(self._calls):
            self._end(call)
            call.tell(error)

    def _tell(self) -> None:
        """What the step has brought, in one message for each loop."""
        messages: dict[asyncio.AbstractEventLoop, list[tuple[_Call, News]]] = defaultdict(list)
        for call, generation in list(self._calls.items()):
            family = (generation, *generation.siblings)
            if call.has_tokens_at_once and (new := generation.choices[call.num_told :]):
                call.num_told += len(new)
                messages[call.loop].append((call, new))
            if all(one.finish_reason is not None for one in family):
                del self._calls[call]
                failed = next((one.error for one in family if one.error is not None), None)
                messages[call.loop].append((call, None if failed is None else RequestError(failed)))
        for loop, message in messages.items():
            _send(loop, message)


class _Call:
    """A request, and the coroutine that waits for it."""

    def __init__(self, request: Request, *, has_tokens_at_once: bool) -> None:
        self.request, self.has_tokens_at_once = request, has_tokens_at_once
        self.generation: Generation | None = None
        self.num_told = 0
        self.loop = asyncio.get_running_loop()
        self.news: asyncio.Queue[News] = asyncio.Queue()

    async def next(self) -> Sequence[Choice] | None:
        """What comes next. Raises what went wrong."""
        news = await self.news.get()
        if isinstance(news, BaseException):
            raise news
        return news

    def tell(self, news: News) -> None:
        _send(self.loop, [(self, news)])


def _send(loop: asyncio.AbstractEventLoop, message: Sequence[tuple[_Call, News]]) -> None:
    def deliver() -> None:
        for call, news in message:
            call.news.put_nowait(news)

    with suppress(RuntimeError):  # the loop was closed: nobody waits any more
        loop.call_soon_threadsafe(deliver)
