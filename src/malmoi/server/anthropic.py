"""`/v1/messages` and `/v1/messages/count_tokens`: chats as Anthropic's clients ask and read them.

    MessagesBody -> conversation, SamplingParams -> AsyncLLM.deltas -> named events, or one message

The system prompt stands beside the messages, contents are blocks, a stream opens, fills and closes one block of text.
Read next: `chat.py`, the same as OpenAI has it.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, ClassVar, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field

from malmoi.engine import SamplingParams
from malmoi.llm import LLM, Completion
from malmoi.server.answered import Steps, completion_of
from malmoi.server.bodies import Body
from malmoi.server.catalogue import Catalogue
from malmoi.server.dialect import errors_as
from malmoi.server.errors import ServerError, described
from malmoi.server.sse import Item, event_stream, while_connected
from malmoi.server.wire import NamedEvents

Content = str | list[dict[str, Any]]
"""Text, or blocks of it and of images."""


class AnthropicMessage(Body):
    """What somebody said."""

    role: Literal["user", "assistant"] = Field(description="Who said it.")
    content: Content = Field(description="Text, or blocks of text and images in base64.")


class CountTokensBody(Body):
    """The body of /v1/messages/count_tokens: a conversation."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        "tools": "write what the model may call into the system prompt.",
        "tool_choice": "there are no tools here yet.",
        "thinking": "the models here do not think first.",
        "mcp_servers": "the server opens no pages.",
        "container": "there are no containers here.",
        "context_management": "send the messages that count.",
        "output_config": "use /v1/chat/completions with response_format.",
        "cache_control": "beginnings that were seen before are found without.",
    }

    model: str = Field("", description="A name of /v1/models; not given: the first.")
    messages: list[AnthropicMessage] = Field(description="The conversation, oldest first, the user's last.")
    system: Content | None = Field(None, description="What the model is told before.")


class MessagesBody(CountTokensBody):
    """The body of /v1/messages."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        **CountTokensBody.REFUSED,
        "service_tier": "there is one.",
        "speed": "there is one.",
        "diagnostics": "there are none.",
        "inference_geo": "the server is where it is.",
    }

    max_tokens: int = Field(description="At most so many.")
    stream: bool = Field(False, description="Send the answer as it comes.")
    temperature: float | None = Field(None, description="0: always the likeliest token.")
    top_p: float | None = Field(None, description="Of the likeliest tokens, those that make up this much.")
    top_k: int | None = Field(None, description="Of so many of the likeliest tokens only; 0: all.")
    stop_sequences: list[str] = Field([], description="The text ends before the first of these.")
    metadata: dict[str, Any] = Field({}, description="For your own records, it changes nothing.")


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoints over `catalogue`, with errors in Anthropic's form."""
    router = APIRouter(tags=["anthropic"], route_class=errors_as(error_of))

    @router.post("/v1/messages", response_model=None)
    async def message(body: MessagesBody, request: Request) -> Response | dict[str, Any]:
        """Answer a conversation."""
        llm = await catalogue.get(body.model)
        params = params_of(body, llm.llm.default_params)
        steps, said = (
            llm.deltas(conversation(body), params),
            Said(catalogue.name(body.model), llm.llm, params),
        )
        if body.stream:
            num_prompt = await _num_tokens(llm.llm, body)
            return await event_stream(said.events(steps, num_prompt), AnthropicEvents())
        return said.whole(await while_connected(request, completion_of(steps)))

    @router.post("/v1/messages/count_tokens")
    async def count_tokens(body: CountTokensBody) -> dict[str, int]:
        """How many tokens a conversation has in the model's format, images included."""
        return {"input_tokens": await _num_tokens((await catalogue.get(body.model)).llm, body)}

    return router


class Said:
    """An answer of the model `model`, as a message or as the events that make one."""

    def __init__(self, model: str, llm: LLM, params: SamplingParams) -> None:
        self._llm, self._params = llm, params
        self._head = {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant", "model": model}

    def whole(self, completion: Completion) -> dict[str, Any]:
        """The answer in one object."""
        return {
            **self._head,
            "content": [{"type": "text", "text": completion.text}],
            **self._ending(completion),
            "usage": {"input_tokens": completion.usage.prompt_tokens, **_used(completion)},
        }

    async def events(self, steps: Steps, num_prompt: int) -> AsyncGenerator[Item, None]:
        """The answer as it comes; None when the request is accepted, which is before its prompt was read."""
        async with aclosing(steps):
            await anext(steps)
            yield None
            opening: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
            usage = {"input_tokens": num_prompt, "output_tokens": 0}
            yield {"type": "message_start", "message": {**self._head, **opening, "usage": usage}}
            block = {"type": "text", "text": ""}
            yield {"type": "content_block_start", "index": 0, "content_block": block}
            async for step in steps:
                if isinstance(step, Completion):
                    yield {"type": "content_block_stop", "index": 0}
                    yield {"type": "message_delta", "delta": self._ending(step), "usage": _used(step)}
                    yield {"type": "message_stop"}
                    return
                if text := step[0].text:
                    delta = {"type": "text_delta", "text": text}
                    yield {"type": "content_block_delta", "index": 0, "delta": delta}

    def _ending(self, completion: Completion) -> dict[str, Any]:
        if completion.finish_reason == "length":
            return {"stop_reason": "max_tokens", "stop_sequence": None}
        generated = self._llm.tokenizer.decode(completion.tokens, skip_special=True)
        found = [stop for stop in self._params.stop if generated.startswith(completion.text + stop)]
        if not found:
            return {"stop_reason": "end_turn", "stop_sequence": None}
        return {"stop_reason": "stop_sequence", "stop_sequence": min(found, key=len)}


def conversation(body: CountTokensBody) -> list[dict[str, Any]]:
    """The messages as chat formats read them. Raises ServerError for what they cannot be."""
    if not body.messages:
        raise ServerError("messages is empty. Send what the user says.", param="messages")
    if body.messages[-1].role == "assistant":
        raise ServerError(
            "the last message is the assistant's, and no answer is gone on with here. End with the user's.",
            param="messages",
        )
    system = [] if body.system is None else [{"role": "system", "content": _parts(body.system)}]
    return [*system, *({"role": one.role, "content": _parts(one.content)} for one in body.messages)]


def params_of(body: MessagesBody, defaults: SamplingParams) -> SamplingParams:
    """What the body asks for, on top of `defaults`. Raises RequestError for a value out of its range."""
    names = ("max_tokens", "temperature", "top_p", "top_k")
    given: dict[str, Any] = {name: getattr(body, name) for name in names if name in body.model_fields_set}
    return replace(defaults, **given, stop=(*defaults.stop, *body.stop_sequences))


def error_of(error: BaseException) -> tuple[int, dict[str, Any]]:
    """The status of an error, and the error in Anthropic's form.

    >>> error_of(ServerError("no model is called 'x'.", status=404))
    (404, {'type': 'error', 'error': {'type': 'not_found_error', 'message': "no model is called 'x'."}})
    """
    status, body = described(error)
    kind = "api_error" if status >= 500 else body["error"]["type"]
    return status, {"type": "error", "error": {"type": kind, "message": body["error"]["message"]}}


class AnthropicEvents(NamedEvents):
    """Named events, and errors in Anthropic's form."""

    def failed(self, error: BaseException) -> Mapping[str, Any]:
        return error_of(error)[1]


async def _num_tokens(llm: LLM, body: CountTokensBody) -> int:
    asked = await asyncio.to_thread(llm.builder.build, conversation(body), SamplingParams())
    return len(asked.request.source or ()) + len(asked.request.tokens)


def _parts(content: Content) -> Content:
    return content if isinstance(content, str) else list(map(_part, _without_hints(content)))


def _without_hints(blocks: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """The blocks without marks of where a cache may end: beginnings are found here wherever they end."""
    return ({key: value for key, value in one.items() if key != "cache_control"} for one in blocks)


def _part(block: Mapping[str, Any]) -> dict[str, Any]:
    match block:
        case {"type": "text", "text": str(text), **more} if not more.get("citations"):
            return {"type": "text", "text": text}
        case {"type": "image", "source": {"type": "base64", "media_type": str(kind), "data": str(data)}}:
            return {"type": "image", "image": f"data:{kind};base64,{data}"}
        case {"type": "image", "source": {"type": "url"}}:
            raise ServerError(
                "an image is a URL, and nothing is fetched. Send it in base64.", param="messages"
            )
    raise ServerError(
        f"a block of the type {block.get('type')!r:.40} is not read here. Send text, or an image in base64.",
        param="messages",
    )


def _used(completion: Completion) -> dict[str, int]:
    return {"output_tokens": completion.usage.completion_tokens}
