"""How long a request needs a model: until its answer is sent, and no endpoint has to think of it.

Place in the flow: `app.py` puts `HoldModels` around the endpoints; `local.py` asks for the `HOLDS` of the request that
it works for. Read next: `room.py`, for whom that matters.
"""

from collections.abc import Callable, Hashable
from contextlib import ExitStack
from contextvars import ContextVar

from starlette.types import Receive, Scope, Send

from malmoi.server.trust.layer import Layer


class Holds:
    """What a request holds, each once, and how it is given back.

    >>> given_back = []
    >>> with Holds() as holds:
    ...     holds.add("model", lambda: given_back.append("model"))
    ...     "model" in holds, given_back
    (True, [])
    >>> given_back
    ['model']
    """

    def __init__(self) -> None:
        self._held: set[Hashable] = set()
        self._stack = ExitStack()

    def __contains__(self, what: Hashable) -> bool:
        return what in self._held

    def add(self, what: Hashable, give_back: Callable[[], None]) -> None:
        """Hold something to the end (mutates the holds)."""
        self._held.add(what)
        self._stack.callback(give_back)

    def __enter__(self) -> "Holds":
        return self

    def __exit__(self, *_: object) -> None:
        self._held.clear()
        self._stack.close()


HOLDS: ContextVar[Holds | None] = ContextVar("HOLDS", default=None)
"""Those of the request that this code works for; None: for none, so what it asks for is not held."""


class HoldModels(Layer):
    """Keeps the models that a request has asked for until it has ended."""

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        with Holds() as holds:
            before = HOLDS.set(holds)
            try:
                await self.app(scope, receive, send)
            finally:
                HOLDS.reset(before)
