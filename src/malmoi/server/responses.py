"""`/v1/responses`: answers that the server keeps, so that the next request has to send what is new alone.

    ResponsesBody + what was kept -> conversation, SamplingParams -> AsyncLLM.deltas -> named events, or one object

Read next: `responses_bodies.py`, what may be asked; `kept.py`, where answers stay; `chat.py`, without a memory.
"""

import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from itertools import count
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from malmoi.engine import SamplingParams
from malmoi.llm import Completion
from malmoi.server.answered import Steps, completion_of
from malmoi.server.catalogue import Catalogue
from malmoi.server.errors import ServerError, described
from malmoi.server.kept import Kept, Shelf
from malmoi.server.responses_bodies import ResponsesBody
from malmoi.server.sampling import form_of
from malmoi.server.sse import event_stream, while_connected
from malmoi.server.wire import NamedEvents

MAX_COUNT, MAX_BYTES = 1024, 64 * 2**20
"""How many answers are kept, and how much memory they may take, their conversations included."""


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoints over `catalogue`, and over a shelf of their own."""
    router, shelf = APIRouter(tags=["responses"]), Shelf(max_count=MAX_COUNT, max_bytes=MAX_BYTES)

    @router.post("/v1/responses", response_model=None)
    async def respond(body: ResponsesBody, request: Request) -> Response | dict[str, Any]:
        """Answer what is new of a conversation."""
        llm = await catalogue.get(body.model)
        before = (
            [] if body.previous_response_id is None else shelf.get(body.previous_response_id).conversation
        )
        conversation = [*before, *messages_of(body.input)]
        told = [] if body.instructions is None else [{"role": "system", "content": body.instructions}]
        params = params_of(body, llm.llm.default_params)
        steps = llm.deltas([*told, *conversation], params)
        answered = Responded(body, catalogue.name(body.model), params, conversation, shelf)
        if body.stream:
            return await event_stream(answered.events(steps), NamedEvents())
        return answered.whole(await while_connected(request, completion_of(steps)))

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


class Responded:
    """The answer to a body, as an object or as the events that make one; kept at its end if the body says so."""

    def __init__(
        self,
        body: ResponsesBody,
        model: str,
        params: SamplingParams,
        conversation: list[dict[str, Any]],
        shelf: Shelf,
    ) -> None:
        self._body, self._conversation, self._shelf = body, conversation, shelf
        self._message_id = f"msg_{uuid.uuid4().hex}"
        self._head = {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            "instructions": body.instructions,
            "previous_response_id": body.previous_response_id,
            "store": body.store,
            "max_output_tokens": body.max_output_tokens,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "text": {"format": body.text.format.model_dump(exclude_unset=True, by_alias=True)},
            "truncation": body.truncation,
            "metadata": body.metadata,
            "tools": [],
            "tool_choice": "none",
            "parallel_tool_calls": False,
        }

    def whole(self, completion: Completion) -> dict[str, Any]:
        """The answer in one object, which is kept."""
        is_cut = completion.finish_reason == "length"
        status = "incomplete" if is_cut else "completed"
        answer = self._object(
            status, output=[self._message(status, completion.text)], usage=_usage(completion)
        )
        if is_cut:
            answer["incomplete_details"] = {"reason": "max_output_tokens"}
        if self._body.store:
            said = {"role": "assistant", "content": completion.text}
            kept = Kept(answer=answer, conversation=[*self._conversation, said])
            answer["store"] = self._shelf.put(answer["id"], kept)
        return answer

    async def events(self, steps: Steps) -> AsyncGenerator[dict[str, Any], None]:
        """The answer as it comes. The first event is there when the request is accepted."""
        async with aclosing(steps):
            await anext(steps)
            numbers = count()
            async for kind, event in self._unnumbered(steps):
                yield {"type": f"response.{kind}", "sequence_number": next(numbers), **event}

    async def _unnumbered(self, steps: Steps) -> AsyncGenerator[tuple[str, dict[str, Any]], None]:
        item = {"output_index": 0}
        part = {"item_id": self._message_id, "output_index": 0, "content_index": 0}
        yield "created", {"response": self._object("in_progress")}
        yield "in_progress", {"response": self._object("in_progress")}
        yield "output_item.added", {**item, "item": {**self._message("in_progress", ""), "content": []}}
        yield "content_part.added", {**part, "part": _text("")}
        try:
            async for step in steps:
                if not isinstance(step, Completion):
                    if text := step[0].text:
                        yield "output_text.delta", {**part, "delta": text, "logprobs": []}
                    continue
                answer = self.whole(step)
                yield "output_text.done", {**part, "text": step.text, "logprobs": []}
                yield "content_part.done", {**part, "part": _text(step.text)}
                yield "output_item.done", {**item, "item": answer["output"][0]}
                yield answer["status"], {"response": answer}
        except Exception as error:  # noqa: BLE001  # the status is sent: the stream itself has to say it
            problem = described(error)[1]["error"]
            failed = {"code": "server_error", "message": problem["message"]}
            yield "failed", {"response": {**self._object("failed"), "error": failed}}

    def _object(self, status: str, **more: Any) -> dict[str, Any]:
        empty: dict[str, Any] = {"error": None, "incomplete_details": None, "output": [], "usage": None}
        return {**self._head, "status": status, **empty, **more}

    def _message(self, status: str, text: str) -> dict[str, Any]:
        return {
            "id": self._message_id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": [_text(text)],
        }


def messages_of(given: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is new, as chat formats read it. Raises ServerError for an item that is no message.

    >>> messages_of([{"role": "developer", "content": [{"type": "input_text", "text": "짧게"}]}])
    [{'role': 'system', 'content': [{'type': 'text', 'text': '짧게'}]}]
    """
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return list(map(_message, given))


def params_of(body: ResponsesBody, defaults: SamplingParams) -> SamplingParams:
    """What the body asks for, on top of `defaults`. Raises RequestError for a value out of its range."""
    names = {"max_output_tokens": "max_tokens", "temperature": "temperature", "top_p": "top_p"}
    given: dict[str, Any] = {
        ours: getattr(body, name) for name, ours in names.items() if name in body.model_fields_set
    }
    return replace(defaults, **given, **form_of(body.text.format.type, body.text.format.schema_))


def _message(item: Mapping[str, Any]) -> dict[str, Any]:
    kind, role, content = item.get("type", "message"), item.get("role"), item.get("content")
    if kind != "message" or not isinstance(role, str) or not isinstance(content, str | list):
        raise ServerError(
            f"an item of the type {kind!r:.40} is not one that is read here. Send messages, with a role and a content.",
            param="input",
        )
    role = "system" if role == "developer" else role
    return {"role": role, "content": content if isinstance(content, str) else list(map(_part, content))}


def _part(part: object) -> dict[str, Any]:
    match part:
        case {"type": "input_text" | "output_text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "input_image", "image_url": str(url), **more} if more.get("detail", "auto") == "auto":
            return {"type": "image", "image": url}
        case {"type": "input_audio", "input_audio": dict(sound)}:
            return {"type": "input_audio", "input_audio": sound}
    raise ServerError(
        "a part of a content is not one that is read here. Send input_text, output_text, input_image with a data: URL "
        "in image_url and no detail but auto, or input_audio.",
        param="input",
    )


def _text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(completion: Completion) -> dict[str, Any]:
    used = completion.usage
    return {
        "input_tokens": used.prompt_tokens,
        "input_tokens_details": {"cached_tokens": used.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": used.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used.total_tokens,
    }
