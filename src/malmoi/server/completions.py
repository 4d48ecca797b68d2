"""`/v1/completions`: a text goes in, what comes after it comes out. Read next: `sse.py`."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from malmoi.llm import Completion, TokenLogprob
from malmoi.llm.answer import Delta
from malmoi.server.answered import Answered, Form, answer, piece
from malmoi.server.bodies import CompletionBody
from malmoi.server.catalogue import Catalogue
from malmoi.server.sampling import params_of


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoint over `catalogue`."""
    router = APIRouter(tags=["completions"])

    @router.post("/v1/completions", response_model=None)
    async def complete_text(body: CompletionBody, request: Request) -> Response | dict[str, Any]:
        """Go on with a text."""
        llm = await catalogue.get(body.model)
        steps = llm.deltas(body.prompt, params_of(body, llm.llm.default_params))
        return await answer(request, steps, body, Answered(TextForm(), catalogue.name(body.model)))

    return router


class TextForm(Form):
    """The choices of a completion: texts, or pieces of them."""

    id_prefix, whole_kind, chunk_kind = "cmpl-", "text_completion", "text_completion"

    def opening(self, index: int) -> dict[str, Any] | None:
        return None

    def added(self, index: int, delta: Delta) -> dict[str, Any]:
        return {
            "index": index,
            "text": delta.text,
            "logprobs": _logprobs(delta.logprobs),
            "finish_reason": None,
        }

    def ended(self, index: int, reason: str) -> dict[str, Any]:
        return {"index": index, "text": "", "logprobs": None, "finish_reason": reason}

    def whole(self, index: int, completion: Completion) -> dict[str, Any]:
        return {
            "index": index,
            "text": completion.text,
            "logprobs": _logprobs(completion.logprobs or ()),
            "finish_reason": completion.finish_reason,
        }


def _logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any] | None:
    """In OpenAI's older form: lists side by side. Of candidates that read alike the likeliest counts."""
    if not tokens:
        return None
    texts = list(map(piece, tokens))
    return {
        "tokens": texts,
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{piece(one): one.logprob for one in reversed(token.top)} for token in tokens],
        "text_offset": list(accumulate(map(len, texts[:-1]), initial=0)),
    }
