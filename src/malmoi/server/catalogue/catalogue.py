"""The models by name, wherever they run; those of this process share its memory.

    a body's `model` -> CATALOGUE -> Entry: LocalModel | Upstream | Chooser -> what answers

Place in the flow: every endpoint asks here for the model that a body names. Read next: `entry.py`, `local.py`.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from malmoi.llm import AsyncTextEncoder
from malmoi.llm.prompt import Prompt
from malmoi.llm.transcribe import AsyncTranscriber
from malmoi.server.catalogue.entry import Chooser, Entry, Serving
from malmoi.server.catalogue.loaded import Load, Loaded
from malmoi.server.catalogue.local import LocalModel
from malmoi.server.catalogue.measured import MeasuredLLM
from malmoi.server.catalogue.room import Room
from malmoi.server.catalogue.writer import Chosen, Writer
from malmoi.server.errors import ServerError

S = TypeVar("S", MeasuredLLM, AsyncTextEncoder, AsyncTranscriber)


class Catalogue:
    """The models of a server, by the names that requests call them.

    Args:
        models: each an `Entry`, or what `load` makes a model in this process of.
        load: makes it; not needed if each is an entry.
        room: the memory of all models in this process.

    >>> catalogue = Catalogue({"default": None, "big": "runs/big"}, load=lambda path: malmoi.load(path))
    >>> catalogue.names, catalogue.is_ready
    (['default', 'big'], False)
    """

    def __init__(
        self, models: Mapping[str, str | Entry | None], *, load: Load | None = None, room: Room | None = None
    ) -> None:
        room = room or Room()
        self.entries: dict[str, Entry] = {}
        for name, model in models.items():
            if isinstance(model, Entry):
                entry = model
            else:
                assert load is not None, "a model that is no entry has to be loaded"
                entry = LocalModel(name, model, load=load)
            if isinstance(entry, LocalModel):
                entry.room = room
            self.entries[name] = entry

    @property
    def names(self) -> list[str]:
        """The first is that of requests that name none."""
        return list(self.entries)

    @property
    def is_ready(self) -> bool:
        """Whether the first model answers at once. Raises ServerError (503) if it cannot be loaded."""
        return self.entries[self.names[0]].is_ready

    def name(self, asked: str) -> str:
        """The name that a request means. Raises ServerError (404) for a model that is not here."""
        name = asked or self.names[0]
        if name not in self.entries:
            raise ServerError(
                f"no model is called {name!r}. Use one of: {', '.join(self.names)}.",
                status=404,
                param="model",
                code="model_not_found",
            )
        return name

    def entry(self, asked: str) -> Entry:
        """What stands behind the name. Raises as `name` does."""
        return self.entries[self.name(asked)]

    async def start(self) -> None:
        """Have the first model ready, if it is one of this process. Raises ServerError if it cannot be loaded."""
        if isinstance(first := self.entry(""), LocalModel):
            await first.serving()

    async def choose(
        self, asked: str, prompt: Prompt, headers: Mapping[str, str] = MappingProxyType({})
    ) -> Chosen:
        """Who answers `prompt`, in a request with these headers.

        Raises ServerError for a model that writes no text, and as `Entry.serving` does.
        """
        name = self.name(asked)
        entry = self.entries[name]
        if isinstance(entry, Chooser):
            pick = await asyncio.to_thread(entry.choose, prompt, headers)
            return replace(await self.choose(pick.name, prompt), why=pick.why)
        serving = await entry.serving()
        if not isinstance(serving, Writer):
            raise _of_other_work(name, serving)
        return Chosen(name=name, writer=serving)

    async def get(self, asked: str) -> MeasuredLLM:
        """A model that writes text, in this process. Raises ServerError for another kind, and if it runs elsewhere."""
        return await self._of_kind(MeasuredLLM, asked)

    async def encoder(self, asked: str) -> AsyncTextEncoder:
        """`get`, for a model that reads text and writes none."""
        return await self._of_kind(AsyncTextEncoder, asked)

    async def transcriber(self, asked: str) -> AsyncTranscriber:
        """`get`, for a model that writes down sounds."""
        return await self._of_kind(AsyncTranscriber, asked)

    async def model(self, asked: str) -> Loaded:
        """The model of whatever kind, in this process. Raises ServerError if it runs elsewhere or cannot be loaded."""
        serving = await self.entry(asked).serving()
        match serving:
            case AsyncTextEncoder():
                return serving.encoder
            case AsyncTranscriber():
                return serving.transcriber
        return serving.local

    def loaded(self, name: str) -> Loaded | None:
        """The model, if it is there now."""
        return entry.there if isinstance(entry := self.entries[name], LocalModel) else None

    def keep(self, asked: str, seconds: float | None) -> None:
        """Let a model stay for so long when nobody uses it (`LocalModel.keep`).

        Nothing for a model of another machine, whose memory is not ours.
        """
        if isinstance(entry := self.entry(asked), LocalModel):
            entry.keep(seconds)

    async def close(self) -> None:
        """Stop all models, and end what is going on."""
        for entry in self.entries.values():
            await entry.close()

    async def _of_kind(self, kind: type[S], asked: str) -> S:
        name = self.name(asked)
        serving = await self.entries[name].serving()
        if not isinstance(serving, kind):
            raise _of_other_work(name, serving)
        return serving


def _of_other_work(name: str, serving: Serving) -> ServerError:
    """What a model does, for whoever asked it for something else."""
    match serving:
        case AsyncTextEncoder():
            work = "reads text and writes none. Ask /v1/embeddings or /v1/classify"
        case AsyncTranscriber():
            work = "writes down sounds. Ask /v1/audio/transcriptions"
        case MeasuredLLM():
            work = "writes text. Ask /v1/chat/completions"
        case _:
            work = "runs on another machine, which is not asked for this. Ask /v1/chat/completions or /v1/embeddings"
    return ServerError(f"the model {name!r} {work}.", param="model")
