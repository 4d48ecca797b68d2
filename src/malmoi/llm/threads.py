"""Threads for what takes long before the engine begins: rendering, reading files, compiling a grammar.

Place in the flow: `AsyncLLM` builds each request in one. Read next: `async_llm.py`.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TypeVar
from weakref import WeakKeyDictionary

from malmoi.core.errors import RequestError

Result = TypeVar("Result")


class Threads:
    """Threads for so many jobs at once. Other jobs wait in their event loops, not in the pool's queue.

    So who leaves while waiting takes all that belongs to its job along. A job that has begun goes on without it, and
    keeps its thread to its end. Several loops may have jobs done; each hands over that many at once at most.
    """

    def __init__(self, num_threads: int, name: str) -> None:
        self._num_threads = num_threads
        self._pool = ThreadPoolExecutor(num_threads, name)
        self._places: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
        self._lock = Lock()  # loops in several threads share the dictionary
        self._is_closed = False

    async def do(self, job: Callable[[], Result]) -> Result:
        """What the job returns; its errors come through. Raises RequestError after `close`."""
        loop = asyncio.get_running_loop()
        with self._lock:
            places = self._places.setdefault(loop, asyncio.Semaphore(self._num_threads))
        await places.acquire()
        try:
            doing = loop.run_in_executor(self._pool, job)
        except RuntimeError:
            places.release()
            if self._is_closed:
                raise RequestError("this model was closed. Make another.") from None
            raise

        def has_ended(done: asyncio.Future[Result]) -> None:
            places.release()
            if not done.cancelled():
                done.exception()  # it was told to whoever still waited

        doing.add_done_callback(has_ended)
        await asyncio.wait([doing])  # a cancellation ends the waiting; the job ends by itself
        if doing.cancelled():
            raise RequestError("the model was closed before the answer was complete. Ask another.")
        return doing.result()

    def close(self) -> None:
        """Begin no more jobs. The threads end, each with the job that it does."""
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
