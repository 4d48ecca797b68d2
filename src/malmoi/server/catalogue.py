"""The models by name: loaded when they are first asked for, one after the other, and kept.

Place in the flow: every endpoint asks here for the model that a body names. Read next: `models.py`.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from malmoi.llm import LLM, AsyncLLM
from malmoi.server.errors import ServerError

Load = Callable[[str | None], LLM]
"""From a directory or a hub id to a model; None: the one that ships with Malmoi."""


@dataclass(eq=False)
class Entry:
    """A model that can be asked for; `llm` once it is loaded."""

    name: str
    path: str | None
    llm: AsyncLLM | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Catalogue:
    """The models of a server, by the names that requests call them.

    >>> catalogue = Catalogue({"default": None, "big": "runs/big"}, load=lambda path: malmoi.load(path))
    >>> catalogue.names, catalogue.is_ready
    (['default', 'big'], False)
    """

    def __init__(self, paths: Mapping[str, str | None], *, load: Load) -> None:
        self._entries = {name: Entry(name, path) for name, path in paths.items()}
        self._load = load

    @property
    def names(self) -> list[str]:
        """The first is that of requests that name none."""
        return list(self._entries)

    @property
    def is_ready(self) -> bool:
        """Whether the first model is loaded."""
        return next(iter(self._entries.values())).llm is not None

    def name(self, asked: str) -> str:
        """The name that a request means. Raises ServerError (404) for a model that is not here."""
        name = asked or self.names[0]
        if name not in self._entries:
            raise ServerError(
                f"no model is called {name!r}. Use one of: {', '.join(self.names)}.",
                status=404,
                param="model",
                code="model_not_found",
            )
        return name

    async def get(self, asked: str) -> AsyncLLM:
        """The model, loaded if it was not. Raises what loading raises, and as `name` does."""
        entry = self._entries[self.name(asked)]
        async with entry.lock:
            if entry.llm is None:
                entry.llm = AsyncLLM(await asyncio.to_thread(self._load, entry.path))
            return entry.llm

    def loaded(self, name: str) -> AsyncLLM | None:
        """The model, if it is there already."""
        return self._entries[name].llm

    async def close(self) -> None:
        """Stop all models, and end what is going on."""
        for entry in self._entries.values():
            if entry.llm is not None:
                await entry.llm.close()
