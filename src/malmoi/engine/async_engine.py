"""The engines behind an event loop: one thread computes, coroutines wait for what comes.

    AsyncEngine        an `Engine`: tokens as they come, or the generation at its end
    AsyncPoolEngine    a `PoolEngine`: what was made of a text

Read next: `engine_thread.py`, which has all of the work; `engine.py`.
"""

from collections.abc import AsyncGenerator
from functools import partial

from torch import Tensor

from malmoi.core.errors import RequestError
from malmoi.engine.engine import Engine
from malmoi.engine.engine_thread import EngineThread
from malmoi.engine.pool_engine import PoolEngine
from malmoi.engine.pool_request import Pooled, PoolRequest
from malmoi.engine.progress import Follower, Progress
from malmoi.engine.request import Choice, Generation, Request


class AsyncEngine(EngineThread[Request, Generation]):
    """An `Engine` for coroutines; what `EngineThread` promises holds.

    >>> async with AsyncEngine(Engine(model)) as engine:                       # doctest: +SKIP
    ...     async for choice in engine.stream(Request(tokens=[5, 6, 7])):
    ...         print(choice.token)
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, family=lambda generation: (generation, *generation.siblings))

    def stream(self, request: Request) -> AsyncGenerator[Choice, None]:
        """Yield each token as soon as it is chosen. Wrap it in `contextlib.aclosing` if you may leave before its end.

        Raises RequestError for one of several answers (`n`), and from the generator if the request could never be
        served, and behind the last token if no other could be chosen.
        """
        if request.params.n > 1:
            raise RequestError(f"n={request.params.n}, and a stream gives one answer. Use generate, or n=1.")
        return self._follow(request, lambda generation: generation.choices)

    async def generate(self, request: Request) -> Generation:
        """The generation at its end, and that of all its siblings. Raises RequestError as `stream` does."""
        return await self._complete(request)

    def follow(self, request: Request) -> AsyncGenerator[list[Progress], None]:
        """Yield what each step brings, for the generation and its siblings in their order, up to the end of all.

        For whoever looks at several answers as they grow. Wrap it in `contextlib.aclosing`, as `stream`; it raises as
        `stream` does, but for `n`.
        """
        follower = Follower()
        steps: list[list[Progress]] = []

        def so_far(generation: Generation) -> list[list[Progress]]:
            if news := follower.news(generation):
                steps.append(news)
            return steps

        return self._follow(request, so_far)

    def abort(self, generation: Generation) -> None:
        """End one of several answers before the next step; the others go on."""
        self._orders.put(partial(self._engine.abort, generation))


class AsyncPoolEngine(EngineThread[PoolRequest, Pooled]):
    """A `PoolEngine` for coroutines; what `EngineThread` promises holds.

    Whatever has come while a step ran is read together in the next: requests of many clients need no batches of
    their own.

    >>> async with AsyncPoolEngine(PoolEngine(model)) as engine:                         # doctest: +SKIP
    ...     requests = [PoolRequest(tokens=ids, read=mean_of_each) for ids in texts]
    ...     vectors = await asyncio.gather(*map(engine.pool, requests))
    """

    def __init__(self, engine: PoolEngine) -> None:
        super().__init__(engine, family=lambda pooled: (pooled,))

    async def pool(self, request: PoolRequest) -> Tensor:
        """The request's result. Raises RequestError if it could never be served, or what was computed is not finite."""
        return (await self._complete(request)).read_result()
