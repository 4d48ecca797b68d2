"""An answer over HTTP, whole or as it comes: what chats and completions have in common.

    AsyncLLM.deltas -> chunks in a `Form` -> `event_stream`;  or its completion -> one object

Place in the flow: `chat.py` and `completions.py` call `answer`, and say how a choice looks. Read next: `sse.py`.
"""

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any, ClassVar

from fastapi import Request
from fastapi.responses import Response

from malmoi.llm import Completion, TokenLogprob
from malmoi.llm.answer import Delta
from malmoi.server.bodies import SamplingBody
from malmoi.server.sse import event_stream, while_connected

Steps = AsyncGenerator[list[Delta] | Completion, None]
"""As `AsyncLLM.deltas` has them."""


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


class Answered:
    """An answer of the model `model` in a form: its id, and the objects that speak of it."""

    def __init__(self, form: Form, model: str) -> None:
        self.form = form
        self.head = {
            "id": form.id_prefix + uuid.uuid4().hex,
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, *completions: Completion) -> dict[str, Any]:
        """The answer in one object, or those to several prompts."""
        texts = enumerate(one for each in completions for one in (each, *each.siblings))
        choices = [self.form.whole(index, one) for index, one in texts]
        return {
            **self.head,
            "object": self.form.whole_kind,
            "choices": choices,
            "usage": usage(*completions),
            "timings": timings(completions[0]),
        }

    async def chunks(
        self, steps: Steps, *, num_texts: int, has_usage: bool
    ) -> AsyncGenerator[dict[str, Any] | None, None]:
        """The answer as it comes; None when the request is accepted, which is before its prompt was read."""
        async with aclosing(steps):
            await anext(steps)
            yield None
            for index in range(num_texts):
                if (opening := self.form.opening(index)) is not None:
                    yield self._chunk(opening)
            async for step in steps:
                if isinstance(step, Completion):
                    if has_usage:
                        yield self._chunk(None, usage=usage(step), timings=timings(step))
                    return
                for choice in self._choices(step):
                    yield self._chunk(choice)

    def _choices(self, step: list[Delta]) -> Iterator[dict[str, Any]]:
        for index, delta in enumerate(step):
            if delta.text or delta.logprobs:
                yield self.form.added(index, delta)
            if delta.finish_reason is not None:
                yield self.form.ended(index, delta.finish_reason)

    def _chunk(self, choice: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
        choices = [] if choice is None else [choice]
        return {**self.head, "object": self.form.chunk_kind, "choices": choices, **more}


async def answer(
    request: Request, steps: Steps, body: SamplingBody, answered: Answered
) -> Response | dict[str, Any]:
    """The response to a body: a stream if it asks for one. Who goes away ends the request."""
    if body.stream:
        has_usage = body.stream_options.include_usage
        return await event_stream(answered.chunks(steps, num_texts=body.n, has_usage=has_usage))
    return answered.whole(await while_connected(request, completion_of(steps)))


async def completion_of(steps: Steps) -> Completion:
    """The last of the steps."""
    async with aclosing(steps):
        async for step in steps:
            if isinstance(step, Completion):
                return step
    raise AssertionError("the completion is the last step")


def usage(*completions: Completion) -> dict[str, Any]:
    """Tokens of each prompt, once, and of all texts."""
    num_prompt = sum(each.usage.prompt_tokens for each in completions)
    num_new = sum(one.usage.completion_tokens for each in completions for one in (each, *each.siblings))
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_new,
        "total_tokens": num_prompt + num_new,
        "prompt_tokens_details": {"cached_tokens": sum(each.usage.cached_tokens for each in completions)},
    }


def timings(completion: Completion) -> dict[str, float]:
    """Seconds to the first token, and how fast the others came."""
    times = completion.timings
    return {"first_token_s": times.first_token, "tokens_per_second": times.tokens_per_second}


def piece(token: TokenLogprob) -> str:
    r"""A token as text; of one that is a part of a character, its bytes as `\xed\x95`."""
    try:
        return token.bytes.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in token.bytes)
