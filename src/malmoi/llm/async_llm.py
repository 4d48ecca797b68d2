"""`AsyncLLM`: the same answers for coroutines, many at a time, on an event loop that goes on meanwhile.

    coroutine -> a thread: RequestBuilder -> AsyncEngine -> Progress -> Answer, in the coroutine -> pieces, Completion

What asks and what reads is `LLM`'s, only the waiting is another. Read next: `engine/engine_thread.py`, which computes.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Self

from malmoi.core.errors import RequestError
from malmoi.engine import AsyncEngine, SamplingParams
from malmoi.llm.answer import Answer, Delta
from malmoi.llm.completion import Completion
from malmoi.llm.llm import LLM
from malmoi.llm.media import Media
from malmoi.llm.prompt import ChatPrompt, Infill, Prompt
from malmoi.llm.request_builder import TextRequest, check_messages, check_single
from malmoi.llm.stream import require_completion
from malmoi.llm.threads import Threads
from malmoi.media.sources import MediaSource
from malmoi.text.chat import Message

MAX_FETCHING = 16
"""So many requests of a model have files fetched at once. Others with URLs wait for them; those without never do."""
MAX_BUILDING = min(32, (os.cpu_count() or 1) + 4)
"""So many other requests of a model are built at once: as many as there are threads in an event loop's own pool."""


class AsyncLLM:
    """An `LLM` for servers: each coroutine asks for itself, and all that wait are answered side by side.

    A request ends with whoever waits for it: if its task is cancelled or its stream closed, its memory is free before
    the next step. One that is refused or fails says so to whoever asked, and to nobody else. What may take long before
    and after the engine, such as reading an image, compiling a grammar or rendering a conversation, is done in threads.

    Nobody else may use `llm` until `close`, which ends what is still going on with a RequestError.

    >>> async with AsyncLLM(malmoi.load()) as llm:                              # doctest: +SKIP
    ...     one, other = await asyncio.gather(llm.generate("한글은"), llm.generate("서울은"))
    ...     async with aclosing(llm.stream([{"role": "user", "content": "안녕?"}])) as stream:
    ...         async for piece in stream:
    ...             print(piece, end="", flush=True)
    """

    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self._engine = AsyncEngine(llm.engine)
        self._fetching = Threads(MAX_FETCHING, "malmoi-fetching")
        self._building = Threads(MAX_BUILDING, "malmoi-building")

    async def generate(
        self,
        prompt: str | Infill,
        params: SamplingParams | None = None,
        *,
        images: Sequence[MediaSource] = (),
        audio: Sequence[MediaSource] = (),
    ) -> Completion:
        """Go on with a text, fill its gap, or answer it: `LLM.generate`. For several there is `asyncio.gather`."""
        if not isinstance(prompt, str | Infill):
            raise RequestError(
                "generate takes a text. Messages go to chat, each of several texts to its own call."
            )
        return await self._complete(prompt, params, {"images": images, "audio": audio})

    async def chat(
        self, messages: Sequence[Message] | ChatPrompt, params: SamplingParams | None = None
    ) -> Completion:
        """Answer a conversation: `LLM.chat`."""
        check_messages(messages)
        return await self._complete(messages, params)

    def stream(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        *,
        images: Sequence[MediaSource] = (),
        audio: Sequence[MediaSource] = (),
    ) -> "AsyncTextStream":
        """`generate` for a text, `chat` for messages, piece by piece; wrap it in `contextlib.aclosing`.

        Raises RequestError for several answers (`SamplingParams.n`) at once, what else is wrong with the first piece.
        """
        params = params or self.llm.default_params
        check_single(params)
        return AsyncTextStream(self._read(prompt, params, {"images": images, "audio": audio}))

    async def deltas(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        media: Media = MappingProxyType({}),
        *,
        priority: int = 0,
        salt: str = "",
    ) -> AsyncGenerator[list[Delta] | Completion, None]:
        """Yield what each step adds to each text of an answer, and at last the completion: for servers.

        The first item adds nothing, and comes as soon as the request is accepted, however long its prompt is. Wrap it
        in `contextlib.aclosing`. Raises as `generate` and `chat` do, what is wrong with the request before that item.
        `priority` and `salt` are the engine's (`Request`).
        """
        params = params or self.llm.default_params
        accepted = partial(self._accepted, prompt, params, media, priority=priority, salt=salt)
        threads = self._fetching if self.llm.builder.fetches(prompt, media) else self._building
        asked = await threads.do(accepted)
        yield [Delta("")] * params.n
        answer = Answer(asked, self.llm.tokenizer, abort=self._engine.abort)
        async with aclosing(self._engine.follow(asked.request)) as steps:
            async for news in steps:
                yield answer.read(news)
                if answer.is_finished:
                    break
        yield await asyncio.to_thread(answer.completion)  # with logprobs it is long

    def _accepted(
        self, prompt: Prompt, params: SamplingParams, media: Media, *, priority: int, salt: str
    ) -> TextRequest:
        """The request, if the engine would take it."""
        asked = self.llm.builder.build(prompt, params, media)
        asked = replace(asked, request=replace(asked.request, priority=priority, salt=salt))
        self.llm.engine.check(asked.request)  # reads only: the engine's thread may be in a step
        return asked

    async def close(self) -> None:
        """Stop the engine after the step that is running, and end what is going on."""
        self._fetching.close()
        self._building.close()
        await self._engine.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _complete(
        self, prompt: Prompt, params: SamplingParams | None, media: Media = MappingProxyType({})
    ) -> Completion:
        async with aclosing(self._read(prompt, params or self.llm.default_params, media)) as items:
            async for item in items:
                if isinstance(item, Completion):
                    return item
        raise AssertionError("the completion is the last item")

    async def _read(
        self, prompt: Prompt, params: SamplingParams, media: Media
    ) -> AsyncGenerator[str | Completion, None]:
        """Yield the first text as it becomes certain, and at last the completion."""
        async with aclosing(self.deltas(prompt, params, media)) as items:
            async for item in items:
                if isinstance(item, Completion):
                    yield item
                elif piece := item[0].text:
                    yield piece


class AsyncTextStream(AsyncIterator[str]):
    """An answer on its way, like `TextStream`. Closing it, or dropping it, ends the request."""

    def __init__(self, items: AsyncGenerator[str | Completion, None]) -> None:
        self._items = items
        self._completion: Completion | None = None

    async def __anext__(self) -> str:
        item = await anext(self._items)
        if isinstance(item, Completion):
            self._completion = item
            await self._items.aclose()
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """Stop generating and free what the request holds."""
        await self._items.aclose()

    @property
    def completion(self) -> Completion:
        """The whole answer, once the last piece was taken. Raises RequestError before."""
        return require_completion(self._completion)
