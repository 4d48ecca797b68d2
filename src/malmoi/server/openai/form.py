"""OpenAI's objects: what chats and completions say of an answer, one or several texts of it.

    Delta, Completion -> a `Form`: how a choice looks -> OPENAI ANSWER: chunks, or one object

Place in the flow: `chat.py` and `completions.py` give it their forms. Read next: `sse.py`.
"""

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, aclosing
from typing import Any, ClassVar

from malmoi.llm import Completion
from malmoi.llm.answer import Delta
from malmoi.server.answered import Told, choice_of, timings, usage
from malmoi.server.catalogue.writer import Chosen, Steps
from malmoi.server.each import all_of, side_by_side
from malmoi.server.sse import Item
from malmoi.server.wire import DataEvents


class Form(ABC):
    """How the choices of an answer are written; `index` is that of the text, if there are several."""

    id_prefix: ClassVar[str]
    whole_kind: ClassVar[str]
    chunk_kind: ClassVar[str]

    @abstractmethod
    def opening(self, index: int) -> dict[str, Any] | None:
        """What a stream begins with, if with anything."""

    @abstractmethod
    def added(self, index: int, delta: Delta) -> dict[str, Any]:
        """What a step has added."""

    @abstractmethod
    def ended(self, index: int, reason: str) -> dict[str, Any]:
        """That the text is complete."""

    @abstractmethod
    def whole(self, index: int, completion: Completion) -> dict[str, Any]:
        """The text and all that is known of it."""


class OpenAIAnswer(Told):
    """An answer in a form, or those to several prompts.

    Args:
        form: how its choices look.
        chosen: who answers.
        asked: the name that the request has for it.
        num_texts: of each prompt.
        has_usage: a stream ends with the tokens that were used.
    """

    wire = DataEvents()

    def __init__(
        self, form: Form, chosen: Chosen, asked: str, *, num_texts: int = 1, has_usage: bool = False
    ) -> None:
        self._form, self._num_texts, self._has_usage = form, num_texts, has_usage
        self._head = {
            "id": form.id_prefix + uuid.uuid4().hex,
            "created": int(time.time()),
            "model": chosen.name,
            **choice_of(chosen, asked),
        }

    def whole(self, *completions: Completion) -> dict[str, Any]:
        texts = enumerate(one for each in completions for one in (each, *each.siblings))
        return {
            **self._head,
            "object": self._form.whole_kind,
            "choices": [self._form.whole(index, one) for index, one in texts],
            "usage": usage(*completions),
            "timings": timings(completions[0]),
        }

    async def events(self, *answers: Steps) -> AsyncGenerator[Item, None]:
        """The answers as they come; None when all are accepted, which is before a prompt was read."""
        async with AsyncExitStack() as stack:
            for one in answers:
                await stack.enter_async_context(aclosing(one))
            await all_of(map(anext, answers))
            yield None
            for index in range(self._num_texts * len(answers)):
                if (opening := self._form.opening(index)) is not None:
                    yield self._chunk(opening)
            completions: dict[int, Completion] = {}
            async for place, step in await stack.enter_async_context(aclosing(side_by_side(answers))):
                if isinstance(step, Completion):
                    completions[place] = step
                    continue
                for choice in self._choices(step, first=place * self._num_texts):
                    yield self._chunk(choice)
            if self._has_usage:
                ended = [completions[place] for place in range(len(answers))]
                yield self._chunk(None, usage=usage(*ended), timings=timings(ended[0]))

    def _choices(self, step: list[Delta], *, first: int) -> Iterator[dict[str, Any]]:
        for index, delta in enumerate(step, start=first):
            if delta.text or delta.thought or delta.calls or delta.logprobs:
                yield self._form.added(index, delta)
            if delta.finish_reason is not None:
                yield self._form.ended(index, delta.finish_reason)

    def _chunk(self, choice: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
        choices = [] if choice is None else [choice]
        return {**self._head, "object": self._form.chunk_kind, "choices": choices, **more}
