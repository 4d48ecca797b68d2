"""`/api/chat`, `/api/generate`, `/api/embed`: answers and vectors as Ollama's clients ask and read them.

    OllamaChatBody | OllamaGenerateBody -> prompt, SamplingParams -> Chosen -> Writer.answer -> lines of JSON, or one

An answer comes in lines unless the body says otherwise, the last with counts and nanoseconds. Read next:
`prompt.py`, what is asked; `lines.py`, how an answer looks; `models.py`, which models there are.
"""

import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from torch import Tensor

from malmoi.llm.prompt import ChatPrompt, Prompt
from malmoi.server.answered import choice_of, headers_of, respond, special_ids
from malmoi.server.catalogue.catalogue import Catalogue
from malmoi.server.catalogue.upstream import Upstream
from malmoi.server.ollama.bodies import (
    AnswerBody,
    OllamaChatBody,
    OllamaEmbedBody,
    OllamaEmbeddingsBody,
    OllamaGenerateBody,
)
from malmoi.server.ollama.lines import ChatLines, OllamaTold, TextLines, nanoseconds
from malmoi.server.ollama.prompt import chat_prompt, generate_prompt, params_of, seconds_of, wish_of
from malmoi.server.openai.embeddings import vectors_of
from malmoi.server.strict_json import StrictRoute
from malmoi.server.thinking import with_thinking


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoints over `catalogue`."""
    router = APIRouter(tags=["ollama"], route_class=StrictRoute)

    @router.post("/api/chat", response_model=None)
    async def chat(body: OllamaChatBody, request: Request) -> Response:
        """Answer a conversation, or go on with its last message."""
        return await _answer(catalogue, request, body, chat_prompt(body), ChatLines)

    @router.post("/api/generate", response_model=None)
    async def generate(body: OllamaGenerateBody, request: Request) -> Response:
        """Answer a prompt, go on with it, or fill the gap behind it."""
        return await _answer(catalogue, request, body, generate_prompt(body), TextLines)

    @router.post("/api/embed")
    async def embed(body: OllamaEmbedBody) -> dict[str, Any]:
        """A vector of each text."""
        seconds = _seconds(body.keep_alive)
        begin = time.perf_counter()
        vectors, num_tokens = await vectors_of(catalogue, body.model, body.input, dimensions=body.dimensions)
        catalogue.keep(body.model, seconds)
        return {
            "model": body.model,
            "embeddings": [vector.tolist() for vector in vectors],
            "total_duration": nanoseconds(time.perf_counter() - begin),
            "prompt_eval_count": num_tokens,
        }

    @router.post("/api/embeddings")
    async def embed_one(body: OllamaEmbeddingsBody) -> dict[str, Any]:
        """The vector of a text: the older form of /api/embed."""
        seconds = _seconds(body.keep_alive)
        vectors: Sequence[Tensor] = []
        if body.prompt:
            vectors, _ = await vectors_of(catalogue, body.model, body.prompt, dimensions=None)
        elif not isinstance(catalogue.entry(body.model), Upstream):
            await catalogue.encoder(body.model)
        catalogue.keep(body.model, seconds)
        return {"embedding": vectors[0].tolist() if vectors else []}

    return router


async def _answer(
    catalogue: Catalogue, request: Request, body: AnswerBody, prompt: Prompt | None, kind: type[OllamaTold]
) -> Response:
    seconds = _seconds(body.keep_alive)
    if prompt is None and seconds == 0:
        catalogue.keep(body.model, 0)  # without a load only to end it
        return JSONResponse(kind(catalogue.name(body.model), {}).nothing("unload"))
    chosen = await catalogue.choose(body.model, prompt or "", request.headers)
    told = kind(chosen.name, choice_of(chosen, body.model), special_ids(chosen.writer))
    params = params_of(body, chosen.writer.default_params)
    response: Response
    if prompt is None:
        response = JSONResponse(told.nothing("load"), headers=headers_of(chosen))
    else:
        if isinstance(prompt, ChatPrompt):
            prompt = with_thinking(prompt, wish_of(body), chosen.writer)
        steps = chosen.writer.answer(prompt, params)
        response = await respond(steps, told, chosen, is_stream=body.stream)
    catalogue.keep(chosen.name, seconds)  # last: what is refused changes nothing
    return response


def _seconds(keep_alive: float | str | None) -> float | None:
    """How long the model is to stay; None: as configured. Raises ServerError for what is no time."""
    return None if keep_alive is None else seconds_of(keep_alive)
