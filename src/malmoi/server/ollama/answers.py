"""`/api/chat`, `/api/generate`, `/api/embed`: answers and vectors as Ollama's clients ask and read them.

    OllamaChatBody | OllamaGenerateBody -> prompt, SamplingParams -> Chosen -> Writer.answer -> lines of JSON, or one

An answer comes in lines unless the body says otherwise, the last with counts and nanoseconds. Read next:
`prompt.py`, what is asked; `lines.py`, how an answer looks; `models.py`, which models there are.
"""

import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from malmoi.llm.prompt import ChatPrompt, Prompt
from malmoi.server.answered import choice_of, headers_of, respond, special_ids
from malmoi.server.catalogue.catalogue import Catalogue
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
from malmoi.server.sse import while_connected
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
    async def embed(body: OllamaEmbedBody, request: Request) -> dict[str, Any]:
        """A vector of each text."""
        begin = time.perf_counter()
        vectors, num_tokens = await while_connected(
            request, vectors_of(catalogue, body.model, body.input, dimensions=body.dimensions)
        )
        _keep(catalogue, body.model, body.keep_alive)
        return {
            "model": body.model,
            "embeddings": [vector.tolist() for vector in vectors],
            "total_duration": nanoseconds(time.perf_counter() - begin),
            "prompt_eval_count": num_tokens,
        }

    @router.post("/api/embeddings")
    async def embed_one(body: OllamaEmbeddingsBody, request: Request) -> dict[str, Any]:
        """The vector of a text: the older form of /api/embed."""
        await catalogue.encoder(body.model)
        _keep(catalogue, body.model, body.keep_alive)
        if not body.prompt:
            return {"embedding": []}
        vectors, _ = await while_connected(
            request, vectors_of(catalogue, body.model, body.prompt, dimensions=None)
        )
        return {"embedding": vectors[0].tolist()}

    return router


async def _answer(
    catalogue: Catalogue, request: Request, body: AnswerBody, prompt: Prompt | None, kind: type[OllamaTold]
) -> Response:
    if prompt is None and body.keep_alive is not None and seconds_of(body.keep_alive) == 0:
        _keep(catalogue, body.model, 0)  # without a load only to end it
        return JSONResponse(kind(catalogue.name(body.model), {}).nothing("unload"))
    chosen = await catalogue.choose(body.model, prompt or "", request.headers)
    _keep(catalogue, chosen.name, body.keep_alive)
    told = kind(chosen.name, choice_of(chosen, body.model), special_ids(chosen.writer))
    params = params_of(body, chosen.writer.default_params)
    if prompt is None:
        return JSONResponse(told.nothing("load"), headers=headers_of(chosen))
    if isinstance(prompt, ChatPrompt):
        prompt = with_thinking(prompt, wish_of(body), chosen.writer)
    return await respond(request, chosen.writer.answer(prompt, params), told, chosen, is_stream=body.stream)


def _keep(catalogue: Catalogue, name: str, keep_alive: float | str | None) -> None:
    """Let the model stay as long as the body says, or as configured. Raises ServerError for what is no time."""
    catalogue.keep(name, None if keep_alive is None else seconds_of(keep_alive))
