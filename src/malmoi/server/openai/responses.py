"""`/v1/responses`: answers that the server keeps, so that the next request has to send what is new alone.

    ResponsesBody + what was kept -> ChatPrompt -> Chosen -> Writer.answer -> named events, or one object

Read next: `responses_input.py`, what is asked; `responses_output.py`, the items of an answer; `kept.py`, where answers
stay; `chat.py`, without a memory.
"""

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import count
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from malmoi.engine import SamplingParams
from malmoi.llm import Completion
from malmoi.server.answered import Told, choice_of, message_of, respond
from malmoi.server.catalogue.catalogue import Catalogue
from malmoi.server.catalogue.writer import Chosen, Steps
from malmoi.server.errors import ServerError, described
from malmoi.server.openai.kept import Kept, Shelf
from malmoi.server.openai.responses_bodies import ResponsesBody
from malmoi.server.openai.responses_input import messages_of, params_of, prompt_of, wish_of
from malmoi.server.openai.responses_items import Event, Status
from malmoi.server.openai.responses_output import Output
from malmoi.server.sse import Item
from malmoi.server.strict_json import StrictRoute
from malmoi.server.thinking import with_thinking
from malmoi.server.wire import NamedEvents, as_json

MAX_COUNT, MAX_BYTES = 1024, 64 * 2**20
"""How many answers are kept, and how much memory they may take, their conversations included."""


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoints over `catalogue`, and over a shelf of their own."""
    router = APIRouter(tags=["responses"], route_class=StrictRoute)
    shelf = Shelf(max_count=MAX_COUNT, max_bytes=MAX_BYTES)

    @router.post("/v1/responses", response_model=None)
    async def respond_to(body: ResponsesBody, request: Request) -> Response:
        """Answer what is new of a conversation."""
        before = (
            [] if body.previous_response_id is None else shelf.get(body.previous_response_id).conversation
        )
        conversation = [*before, *messages_of(body.input)]
        prompt = prompt_of(body, conversation)
        chosen = await catalogue.choose(body.model, prompt, request.headers)
        prompt = with_thinking(prompt, wish_of(body), chosen.writer)
        params = params_of(body, chosen.writer.default_params)
        told = Responded(body, chosen, params, conversation, shelf)
        steps = chosen.writer.answer(prompt, params)
        return await respond(steps, told, chosen, is_stream=body.stream)

    @router.get("/v1/responses/{id}")
    async def get_response(id: str) -> dict[str, Any]:
        """An answer that was kept."""
        return shelf.get(id).answer

    @router.delete("/v1/responses/{id}")
    async def delete_response(id: str) -> dict[str, Any]:
        """Forget it."""
        shelf.delete(id)
        return {"id": id, "object": "response", "deleted": True}

    return router


class Responded(Told):
    """The answer to a body, as an object or as the events that make one; kept at its end if the body says so."""

    wire = NamedEvents()

    def __init__(
        self,
        body: ResponsesBody,
        chosen: Chosen,
        params: SamplingParams,
        conversation: list[dict[str, Any]],
        shelf: Shelf,
    ) -> None:
        self._body, self._conversation, self._shelf = body, conversation, shelf
        self._head = {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "model": chosen.name,
            "instructions": body.instructions,
            "previous_response_id": body.previous_response_id,
            "store": body.store,
            "max_output_tokens": body.max_output_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "text": {"format": body.text.format.model_dump(exclude_unset=True, by_alias=True)},
            "truncation": body.truncation,
            "metadata": body.metadata,
            "tools": [one.model_dump() for one in body.tools],
            "tool_choice": body.model_dump(include={"tool_choice"})["tool_choice"],
            "parallel_tool_calls": body.parallel_tool_calls,
            "reasoning": {"effort": body.reasoning.effort, "summary": body.reasoning.summary},
            **choice_of(chosen, body.model),
        }
        try:
            as_json(self._head).encode()
        except UnicodeEncodeError:
            raise ServerError(
                "what comes back with the answer, such as metadata, tools or instructions, holds half a character. "
                "Repair it first."
            ) from None

    def whole(self, completion: Completion) -> dict[str, Any]:
        """The answer in one object, which is kept."""
        return self._ended(completion, Output.of(completion, _status(completion)))

    async def events(self, steps: Steps) -> AsyncGenerator[Item, None]:
        """The answer as it comes. The first event is there when the request is accepted."""
        async with aclosing(steps):
            await anext(steps)
            numbers = count()
            async for kind, event in self._unnumbered(steps):
                yield {"type": f"response.{kind}", "sequence_number": next(numbers), **event}

    async def _unnumbered(self, steps: Steps) -> AsyncGenerator[Event, None]:
        yield "created", {"response": self._object("in_progress")}
        yield "in_progress", {"response": self._object("in_progress")}
        output = Output()
        try:
            async for step in steps:
                if isinstance(step, Completion):
                    for event in output.ended(_status(step)):
                        yield event
                    answer = self._ended(step, output)
                    yield answer["status"], {"response": answer}
                else:
                    for event in output.added(step[0]):
                        yield event
        except Exception as error:  # noqa: BLE001  # the status is sent: the stream itself has to say it
            problem = described(error)[1]["error"]
            failed = {"code": "server_error", "message": problem["message"]}
            yield "failed", {"response": {**self._object("failed"), "error": failed}}

    def _ended(self, completion: Completion, output: Output) -> dict[str, Any]:
        status = _status(completion)
        answer = self._object(status, output=output.items, usage=_usage(completion))
        if status == "incomplete":
            answer["incomplete_details"] = {"reason": "max_output_tokens"}
        if self._body.store:
            kept = Kept(answer=answer, conversation=[*self._conversation, message_of(completion)])
            answer["store"] = self._shelf.put(answer["id"], kept)
        return answer

    def _object(self, status: str, **more: Any) -> dict[str, Any]:
        empty: dict[str, Any] = {"error": None, "incomplete_details": None, "output": [], "usage": None}
        return {**self._head, "status": status, **empty, **more}


def _status(completion: Completion) -> Status:
    return "incomplete" if completion.finish_reason == "length" else "completed"


def _usage(completion: Completion) -> dict[str, Any]:
    used = completion.usage
    return {
        "input_tokens": used.prompt_tokens,
        "input_tokens_details": {"cached_tokens": used.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": used.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": used.thought_tokens},
        "total_tokens": used.total_tokens,
    }
