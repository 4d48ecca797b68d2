"""`/v1/chat/completions`: a conversation goes in, its next message comes out, whole or as it comes.

    ChatBody -> prompt_of, params_of -> Chosen -> Writer.answer -> chunks -> sse.py, or one object

Read next: `chat_prompt.py`, what is asked; `form.py`, what both endpoints say of an answer; `completions.py`,
the same for a text.
"""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from malmoi.llm import Completion, TokenLogprob
from malmoi.llm.answer import Delta
from malmoi.llm.completion import CallDelta
from malmoi.server.answered import message_of, piece, respond, special_ids, text_bytes
from malmoi.server.catalogue.catalogue import Catalogue
from malmoi.server.openai.chat_bodies import ChatBody
from malmoi.server.openai.chat_prompt import params_of, prompt_of, wish_of
from malmoi.server.openai.form import Form, OpenAIAnswer
from malmoi.server.strict_json import StrictRoute
from malmoi.server.thinking import with_thinking


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoint over `catalogue`."""
    router = APIRouter(tags=["chat"], route_class=StrictRoute)

    @router.post("/v1/chat/completions", response_model=None)
    async def complete_chat(body: ChatBody, request: Request) -> Response:
        """Answer a conversation."""
        prompt = prompt_of(body)
        chosen = await catalogue.choose(body.model, prompt, request.headers)
        prompt = with_thinking(prompt, wish_of(body), chosen.writer)
        params = params_of(body, chosen.writer.default_params)
        steps = chosen.writer.answer(prompt, params, priority=body.priority, salt=body.cache_salt)
        told = OpenAIAnswer(
            (FunctionForm if body.functions else ChatForm)(special_ids(chosen.writer)),
            chosen,
            body.model,
            num_texts=body.n,
            has_usage=body.stream_options.include_usage,
        )
        return await respond(steps, told, chosen, is_stream=body.stream)

    return router


class ChatForm(Form):
    """The choices of a chat: messages, or what is added to them. A thought is the `reasoning_content` of each."""

    id_prefix, whole_kind, chunk_kind = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def __init__(self, special_ids: frozenset[int]) -> None:
        self._special_ids = special_ids

    def opening(self, index: int) -> dict[str, Any] | None:
        return _chunk(index, {"role": "assistant", "content": ""})

    def added(self, index: int, delta: Delta) -> dict[str, Any]:
        said: dict[str, Any] = {"content": delta.text, "reasoning_content": delta.thought}
        added = {key: text for key, text in said.items() if text}
        if delta.calls:
            added |= self.calls_added(delta.calls)
        return {**_chunk(index, added), "logprobs": self._logprobs(delta.logprobs)}

    def ended(self, index: int, reason: str) -> dict[str, Any]:
        return {**_chunk(index, {}), "finish_reason": self.reason(reason)}

    def whole(self, index: int, completion: Completion) -> dict[str, Any]:
        return {
            "index": index,
            "message": self.message(completion),
            "logprobs": self._logprobs(completion.logprobs or ()),
            "finish_reason": self.reason(completion.finish_reason),
        }

    def message(self, completion: Completion) -> dict[str, Any]:
        """What was said."""
        return message_of(completion)

    def calls_added(self, calls: Sequence[CallDelta]) -> dict[str, Any]:
        """What is added to its calls: first the id and the name, then arguments."""
        return {
            "tool_calls": [
                {
                    "index": call.place,
                    **({"id": call.id, "type": "function"} if call.id else {}),
                    "function": {**({"name": call.name} if call.name else {}), "arguments": call.arguments},
                }
                for call in calls
            ]
        }

    def reason(self, reason: str) -> str:
        """Why a text has ended, as this form calls it."""
        return reason

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        """In OpenAI's form, with two things more: the id, and the probability that it was drawn with."""
        if not tokens:
            return None
        said = self._said
        return {"content": [{**said(token), "top_logprobs": list(map(said, token.top))} for token in tokens]}

    def _said(self, token: TokenLogprob) -> dict[str, Any]:
        """A token."""
        return {
            "token": piece(token),
            "logprob": token.logprob,
            "bytes": text_bytes(token, self._special_ids) or None,
            "id": token.token,
            "probability": token.probability,
        }


class FunctionForm(ChatForm):
    """The older form: the one call of a message is its `function_call`."""

    def message(self, completion: Completion) -> dict[str, Any]:
        message = super().message(completion)
        for call in message.pop("tool_calls", [])[:1]:
            message["function_call"] = call["function"]
        return message

    def calls_added(self, calls: Sequence[CallDelta]) -> dict[str, Any]:
        name, arguments = "".join(one.name for one in calls), "".join(one.arguments for one in calls)
        return {"function_call": {**({"name": name} if name else {}), "arguments": arguments}}

    def reason(self, reason: str) -> str:
        return "function_call" if reason == "tool_calls" else reason


def _chunk(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
