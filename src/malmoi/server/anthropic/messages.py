"""`/v1/messages` and `/v1/messages/count_tokens`: chats as Anthropic's clients ask and read them.

    MessagesBody -> ChatPrompt, SamplingParams -> Chosen -> Writer.answer -> named events, or one message

Read next: `prompt.py`, what is asked; `message.py`, how an answer looks; `openai/chat.py`, the same as
OpenAI has it.
"""

from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from malmoi.engine import SamplingParams
from malmoi.server.answered import respond
from malmoi.server.anthropic.bodies import CountTokensBody, MessagesBody
from malmoi.server.anthropic.message import Said
from malmoi.server.anthropic.prompt import prompt_of, wish_of
from malmoi.server.catalogue.catalogue import Catalogue
from malmoi.server.strict_json import StrictRoute
from malmoi.server.thinking import with_thinking


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoints over `catalogue`."""
    router = APIRouter(tags=["anthropic"], route_class=StrictRoute)

    @router.post("/v1/messages", response_model=None)
    async def message(body: MessagesBody, request: Request) -> Response:
        """Answer a conversation, or go on with its last message."""
        prompt = prompt_of(body)
        chosen = await catalogue.choose(body.model, prompt, request.headers)
        prompt = with_thinking(prompt, wish_of(body), chosen.writer)
        steps = chosen.writer.answer(prompt, params_of(body, chosen.writer.default_params))
        return await respond(steps, Said(chosen, body), chosen, is_stream=body.stream)

    @router.post("/v1/messages/count_tokens")
    async def count_tokens(body: CountTokensBody, request: Request) -> dict[str, int]:
        """How many tokens a conversation has in the model's format, images and tools included."""
        prompt = prompt_of(body)
        writer = (await catalogue.choose(body.model, prompt, request.headers)).writer
        return {"input_tokens": await writer.num_tokens(with_thinking(prompt, wish_of(body), writer))}

    return router


def params_of(body: MessagesBody, defaults: SamplingParams) -> SamplingParams:
    """What the body asks for, on top of `defaults`. Raises RequestError for a value out of its range."""
    names = ("max_tokens", "temperature", "top_p", "top_k")
    given: dict[str, Any] = {name: getattr(body, name) for name in names if name in body.model_fields_set}
    if body.output_config is not None and body.output_config.format is not None:
        given["json_schema"] = body.output_config.format.schema_
    if body.stop_sequences:
        given["stop"] = tuple(body.stop_sequences)
    return replace(defaults, **given)
