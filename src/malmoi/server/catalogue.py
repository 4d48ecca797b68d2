"""The models by name: loaded when they are first asked for, one after the other, and kept.

One that cannot be loaded is an error for whoever asked for it. The others go on, and it is tried again for the next.
Place in the flow: every endpoint asks here for the model that a body names. Read next: `models.py`.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from malmoi.core.errors import MalmoiError
from malmoi.llm import LLM, AsyncTextEncoder, TextEncoder
from malmoi.llm.prompt import Prompt
from malmoi.llm.transcribe import AsyncTranscriber, Transcriber
from malmoi.server.errors import ServerError
from malmoi.server.measured import MeasuredLLM, Measures
from malmoi.server.writer import Chosen

Loaded = LLM | TextEncoder | Transcriber
Load = Callable[[str | None], Loaded]
"""From a directory or a hub id to a model of any kind; None: the one that ships with Malmoi."""
Serving = MeasuredLLM | AsyncTextEncoder | AsyncTranscriber
S = TypeVar("S", MeasuredLLM, AsyncTextEncoder, AsyncTranscriber)

_log = logging.getLogger("malmoi.server")

_WORK = {
    MeasuredLLM: "writes text. Ask /v1/chat/completions",
    AsyncTextEncoder: "reads text and writes none. Ask /v1/embeddings or /v1/classify",
    AsyncTranscriber: "writes down sounds. Ask /v1/audio/transcriptions",
}
"""What a model of each kind does, for whoever asked one for something else."""


@dataclass(eq=False)
class Entry:
    """A model that can be asked for; `serving` once it is loaded, `has_failed` if the last try was in vain."""

    name: str
    path: str | None
    serving: Serving | None = None
    has_failed: bool = False
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
        """Whether the first model is loaded. Raises ServerError (503) if it cannot be."""
        first = self._entries[self.names[0]]
        if first.has_failed:
            raise _not_loaded(first)
        return first.serving is not None

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

    async def model(self, asked: str) -> Loaded:
        """The model of whatever kind, loaded now if need be. Raises ServerError if it cannot be, and as `name` does."""
        return _behind(await self._loaded(self._entries[self.name(asked)]))

    async def get(self, asked: str) -> MeasuredLLM:
        """`model`, if it writes text, for coroutines. Raises ServerError for one of another kind."""
        return await self._of_kind(MeasuredLLM, asked)

    async def choose(self, asked: str, prompt: Prompt) -> Chosen:
        """The model that answers `prompt`, as `get` has it."""
        return Chosen(name=self.name(asked), writer=await self.get(asked))

    async def encoder(self, asked: str) -> AsyncTextEncoder:
        """`get`, for a model that reads text and writes none."""
        return await self._of_kind(AsyncTextEncoder, asked)

    async def transcriber(self, asked: str) -> AsyncTranscriber:
        """`get`, for a model that writes down sounds."""
        return await self._of_kind(AsyncTranscriber, asked)

    def loaded(self, name: str) -> Loaded | None:
        """The model, if it is there already."""
        serving = self._entries[name].serving
        return None if serving is None else _behind(serving)

    def measures(self, name: str) -> Measures | None:
        """What the answers of a model took; None for one that is not there yet, or writes no text."""
        serving = self._entries[name].serving
        return serving.measures if isinstance(serving, MeasuredLLM) else None

    async def close(self) -> None:
        """Stop all models, and end what is going on."""
        for entry in self._entries.values():
            if entry.serving is not None:
                await entry.serving.close()

    async def _of_kind(self, kind: type[S], asked: str) -> S:
        name = self.name(asked)
        serving = await self._loaded(self._entries[name])
        if not isinstance(serving, kind):
            raise ServerError(f"the model {name!r} {_WORK[type(serving)]}.", param="model")
        return serving

    async def _loaded(self, entry: Entry) -> Serving:
        async with entry.lock:
            if entry.serving is None:
                try:
                    entry.serving = _served(await asyncio.to_thread(self._load, entry.path))
                except Exception as error:  # its files may be wrong in any way
                    entry.has_failed = True
                    unforeseen = None if isinstance(error, MalmoiError) else error
                    _log.error("the model %r cannot be loaded: %s", entry.name, error, exc_info=unforeseen)
                    raise _not_loaded(entry) from error
                entry.has_failed = False
            return entry.serving


def _not_loaded(entry: Entry) -> ServerError:
    """Why is in the log: which files there are is no stranger's business."""
    return ServerError(
        f"the model {entry.name!r} cannot be loaded; the server's log says why. Use another, or ask again once that is "
        "mended.",
        status=503,
        code="model_not_loaded",
    )


def _served(loaded: Loaded) -> Serving:
    match loaded:
        case LLM():
            return MeasuredLLM(loaded)
        case TextEncoder():
            return AsyncTextEncoder(loaded)
        case Transcriber():
            return AsyncTranscriber(loaded)


def _behind(serving: Serving) -> Loaded:
    match serving:
        case MeasuredLLM():
            return serving.llm
        case AsyncTextEncoder():
            return serving.encoder
        case AsyncTranscriber():
            return serving.transcriber
