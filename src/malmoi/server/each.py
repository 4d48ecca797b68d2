"""Several in one request: prompts or texts, one after the other, and what waits for all of their answers."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

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


async def all_of(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results, computed side by side. If one fails or nobody waits any more, the others are given up."""
    running = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*running))
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
