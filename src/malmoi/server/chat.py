"""`/v1/chat/completions`: a conversation goes in, its next message comes out, whole or as it comes.

    ChatBody -> params_of -> AsyncLLM.deltas -> chunks -> sse.py, or one object

Read next: `answered.py`, what both endpoints say of an answer; `completions.py`, the same for a text.
"""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from malmoi.llm import Completion, TokenLogprob
from malmoi.llm.answer import Delta
from malmoi.server.answered import Answered, Form, answer, piece
from malmoi.server.bodies import ChatBody
from malmoi.server.catalogue import Catalogue
from malmoi.server.sampling import params_of
from malmoi.text.tokenizer import Tokenizer


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoint over `catalogue`."""
    router = APIRouter(tags=["chat"])

    @router.post("/v1/chat/completions", response_model=None)
    async def complete_chat(body: ChatBody, request: Request) -> Response | dict[str, Any]:
        """Answer a conversation."""
        llm = await catalogue.get(body.model)
        steps = llm.deltas(body.messages, params_of(body, llm.llm.default_params))
        return await answer(
            request, steps, body, Answered(ChatForm(llm.llm.tokenizer), catalogue.name(body.model))
        )

    return router


class ChatForm(Form):
    """The choices of a chat: messages, or what is added to them."""

    id_prefix, whole_kind, chunk_kind = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._without_text = frozenset(tokenizer.special_tokens.values())

    def opening(self, index: int) -> dict[str, Any] | None:
        return {
            "index": index,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }

    def added(self, index: int, delta: Delta) -> dict[str, Any]:
        content = {"content": delta.text} if delta.text else {}
        return {
            "index": index,
            "delta": content,
            "logprobs": self._logprobs(delta.logprobs),
            "finish_reason": None,
        }

    def ended(self, index: int, reason: str) -> dict[str, Any]:
        return {"index": index, "delta": {}, "logprobs": None, "finish_reason": reason}

    def whole(self, index: int, completion: Completion) -> dict[str, Any]:
        return {
            "index": index,
            "message": {"role": "assistant", "content": completion.text},
            "logprobs": self._logprobs(completion.logprobs or ()),
            "finish_reason": completion.finish_reason,
        }

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        """In OpenAI's form, with two things more: the id, and the probability that it was drawn with."""
        if not tokens:
            return None
        said = self._said
        return {"content": [{**said(token), "top_logprobs": list(map(said, token.top))} for token in tokens]}

    def _said(self, token: TokenLogprob) -> dict[str, Any]:
        """A token. A special one has no bytes, so that those of all make up the text."""
        return {
            "token": piece(token),
            "logprob": token.logprob,
            "bytes": None if token.token in self._without_text else list(token.bytes),
            "id": token.token,
            "probability": token.probability,
        }
