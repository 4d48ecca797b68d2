"""`/api/chat`, `/api/generate`, `/api/embed`: answers and vectors as Ollama's clients ask and read them.

    OllamaChatBody | OllamaGenerateBody -> prompt, SamplingParams -> AsyncLLM.deltas -> lines of JSON, or one object

An answer comes in lines unless the body says otherwise, the last with counts and nanoseconds. Read next:
`ollama_bodies.py`, what may be asked; `ollama_models.py`, the endpoints about models.
"""

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from malmoi.engine import SamplingParams
from malmoi.llm import Completion
from malmoi.llm.prompt import Prompt
from malmoi.server.answered import Steps, completion_of
from malmoi.server.catalogue import Catalogue
from malmoi.server.dialect import ollama_error
from malmoi.server.embeddings import vectors_of
from malmoi.server.errors import ServerError
from malmoi.server.ollama_bodies import (
    AnswerBody,
    OllamaChatBody,
    OllamaEmbedBody,
    OllamaGenerateBody,
)
from malmoi.server.sse import Item, event_stream, while_connected
from malmoi.server.wire import Lines
from malmoi.text.chat import Message

_NAMES = {"num_predict": "max_tokens", "repeat_penalty": "repetition_penalty"}
"""Options that are called otherwise in `SamplingParams`."""


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoints over `catalogue`."""
    router = APIRouter(tags=["ollama"])

    @router.post("/api/chat", response_model=None)
    async def chat(body: OllamaChatBody, request: Request) -> Response | dict[str, Any]:
        """Answer a conversation."""
        messages = [{"role": one.role, "content": _content(one.content, one.images)} for one in body.messages]
        return await _answer(catalogue, request, body, messages, Told(body.model, is_chat=True))

    @router.post("/api/generate", response_model=None)
    async def generate(body: OllamaGenerateBody, request: Request) -> Response | dict[str, Any]:
        """Answer a prompt, or go on with it."""
        return await _answer(catalogue, request, body, _prompt(body), Told(body.model, is_chat=False))

    @router.post("/api/embed")
    async def embed(body: OllamaEmbedBody, request: Request) -> dict[str, Any]:
        """A vector of each text."""
        begin = time.perf_counter()
        vectors, num_tokens = await while_connected(
            request, vectors_of(catalogue, body.model, body.input, dimensions=body.dimensions)
        )
        return {
            "model": body.model,
            "embeddings": [vector.tolist() for vector in vectors],
            "total_duration": _nanoseconds(time.perf_counter() - begin),
            "prompt_eval_count": num_tokens,
        }

    return router


class Told:
    """An answer of the model `model`: messages of a chat, or pieces of a text."""

    def __init__(self, model: str, *, is_chat: bool) -> None:
        self._model, self._is_chat = model, is_chat
        self._begin = time.perf_counter()

    def whole(self, completion: Completion) -> dict[str, Any]:
        """The answer in one object."""
        return self._said(completion.text, **self._ending(completion))

    async def lines(self, steps: Steps) -> AsyncGenerator[Item, None]:
        """The answer as it comes; None when the request is accepted, which is before its prompt was read."""
        async with aclosing(steps):
            await anext(steps)
            yield None
            async for step in steps:
                if isinstance(step, Completion):
                    yield self._said("", **self._ending(step))
                elif text := step[0].text:
                    yield self._said(text, done=False)

    def loaded(self) -> dict[str, Any]:
        """That the model is there, which was all that was asked."""
        return self._said("", done=True, done_reason="load")

    def _said(self, text: str, **more: Any) -> dict[str, Any]:
        said = {"message": {"role": "assistant", "content": text}} if self._is_chat else {"response": text}
        return {"model": self._model, "created_at": datetime.now(UTC).isoformat(), **said, **more}

    def _ending(self, completion: Completion) -> dict[str, Any]:
        times = completion.timings.token_times
        return {
            "done": True,
            "done_reason": completion.finish_reason,
            "total_duration": _nanoseconds(time.perf_counter() - self._begin),
            "prompt_eval_count": completion.usage.prompt_tokens,
            "prompt_eval_duration": _nanoseconds(times[0]),
            "eval_count": completion.usage.completion_tokens,
            "eval_duration": _nanoseconds(times[-1] - times[0]),
        }


class OllamaLines(Lines):
    """Lines of JSON, and errors in Ollama's form."""

    def failed(self, error: BaseException) -> Mapping[str, Any]:
        return ollama_error(error)[1]


async def _answer(
    catalogue: Catalogue, request: Request, body: AnswerBody, prompt: Prompt, told: Told
) -> Response | dict[str, Any]:
    llm = await catalogue.get(body.model)
    params = params_of(body, llm.llm.default_params)
    if not prompt:
        return told.loaded()
    steps = llm.deltas(prompt, params)
    if body.stream:
        return await event_stream(told.lines(steps), OllamaLines())
    return told.whole(await while_connected(request, completion_of(steps)))


def params_of(body: AnswerBody, defaults: SamplingParams) -> SamplingParams:
    """What the body asks for, on top of `defaults`. Raises RequestError for a value out of its range.

    >>> options = {"num_predict": 5, "repeat_penalty": 1.1}
    >>> body = OllamaChatBody.model_validate({"model": "default", "options": options})
    >>> params = params_of(body, SamplingParams())
    >>> params.max_tokens, params.repetition_penalty
    (5, 1.1)
    """
    options = body.options.model_dump(exclude_unset=True)
    if options.get("num_predict") == -1:
        options["num_predict"] = None
    if isinstance(stop := options.get("stop"), list):
        options["stop"] = tuple(stop)
    given = {_NAMES.get(name, name): value for name, value in options.items()}
    if body.format is not None:
        given["json_schema"] = {"type": "object"} if body.format == "json" else body.format
    return replace(defaults, **given)


def _prompt(body: OllamaGenerateBody) -> Prompt:
    if not body.raw:
        said: list[Message] = [] if body.system is None else [{"role": "system", "content": body.system}]
        asked = {"role": "user", "content": _content(body.prompt, body.images)}
        return [*said, asked] if body.prompt or body.images else ""
    if body.system is not None or body.images:
        raise ServerError(
            "raw=true reads the prompt alone. Leave out system and images, or raw.", param="raw"
        )
    return body.prompt


def _content(text: str, images: Sequence[str]) -> str | list[dict[str, str]]:
    if not images:
        return text
    return [
        *({"type": "image", "image": f"data:;base64,{image}"} for image in images),
        {"type": "text", "text": text},
    ]


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
