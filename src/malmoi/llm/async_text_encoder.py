"""`AsyncTextEncoder`: the same vectors and labels for coroutines, what has come meanwhile read in one step.

    coroutine -> a thread: PoolRequest -> AsyncPoolEngine -> a vector, the scores of labels

Read next: `text_encoder.py`, which makes the requests; `engine/async_engine.py`.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor

from malmoi.engine import AsyncPoolEngine
from malmoi.engine.pool_request import PoolRequest
from malmoi.llm.text_encoder import TextEncoder

T = TypeVar("T")


class AsyncTextEncoder:
    """A `TextEncoder` for servers. Whoever stops waiting ends what it has asked, and nothing else.

    Nobody else may use `encoder` until `close`.

    >>> encoder = AsyncTextEncoder(TextEncoder.load("out/classify/model"))                   # doctest: +SKIP
    >>> requests = await encoder.requests(encoder.encoder.embedding_request, ["안녕", "안녕하세요"])  # doctest: +SKIP
    >>> one, other = await asyncio.gather(*map(encoder.pool, requests))                        # doctest: +SKIP
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self._engine = AsyncPoolEngine(encoder.engine)

    async def requests(self, request: Callable[[T], PoolRequest], texts: Sequence[T]) -> list[PoolRequest]:
        """`request` of each text, in a thread: a method of `encoder`. Raises its errors, before anything is read."""

        def checked() -> list[PoolRequest]:
            requests = list(map(request, texts))
            for one in requests:
                self.encoder.engine.check(one)
            return requests

        return await asyncio.to_thread(checked)

    async def pool(self, request: PoolRequest) -> Tensor:
        """The result of one. Raises RequestError for what is not finite."""
        return await self._engine.pool(request)

    async def close(self) -> None:
        """Stop the engine after the step that is running, and end what is going on."""
        await self._engine.close()
