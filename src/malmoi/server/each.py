"""Several in one request: prompts or texts, one after the other, and what waits for all of their answers.

Place in the flow: `openai/completions.py` and `openai/embeddings.py` take several. Read next: `openai/form.py`.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Iterable, Sequence
from typing import TypeVar

from malmoi.server.bodies import Texts
from malmoi.server.errors import ServerError

T = TypeVar("T")


def each_of(texts: Texts, *, param: str) -> list[str | list[int]]:
    """One text after the other. Raises ServerError that names `param` for none.

    >>> each_of("안녕", param="input"), each_of([5, 6], param="input"), each_of([[5, 6], [7]], param="input")
    (['안녕'], [[5, 6]], [[5, 6], [7]])
    """
    if isinstance(texts, str):
        return [texts]
    if not texts or [] in texts:
        raise ServerError(f"{param} has nothing in it. Give a text, or ids.", param=param)
    ids = [one for one in texts if isinstance(one, int)]
    return [ids] if ids else [one for one in texts if not isinstance(one, int)]


async def all_of(work: Iterable[Awaitable[T]]) -> list[T]:
    """The results, computed side by side. If one fails or nobody waits any more, the others are given up."""
    running = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*running))
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def side_by_side(many: Sequence[AsyncGenerator[T, None]]) -> AsyncGenerator[tuple[int, T], None]:
    """The items of all generators as they come, each with the place of its generator. It closes none of them."""
    if len(many) == 1:  # as nearly always: without a task for each item
        async for item in many[0]:
            yield 0, item
        return
    waiting = {asyncio.ensure_future(anext(one)): place for place, one in enumerate(many)}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for next_item in done:
                place = waiting[next_item]
                try:
                    item = next_item.result()
                except StopAsyncIteration:
                    continue
                finally:
                    del waiting[next_item]
                yield place, item
                waiting[asyncio.ensure_future(anext(many[place]))] = place
    finally:  # a generator cannot be closed while it is asked for an item
        for next_item in waiting:
            next_item.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
