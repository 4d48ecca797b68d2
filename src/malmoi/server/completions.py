"""`/v1/completions`: a text or its ids go in, or several, what comes after comes out. Read next: `sse.py`."""

import codecs
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from malmoi.engine import SamplingParams
from malmoi.llm import LLM, Completion, TokenLogprob
from malmoi.llm.answer import Delta
from malmoi.nn.stack import EncoderDecoder
from malmoi.server.answered import Answered, Form, answer, completion_of, piece
from malmoi.server.bodies import CompletionBody
from malmoi.server.catalogue import Catalogue
from malmoi.server.each import all_of, each_of
from malmoi.server.errors import ServerError
from malmoi.server.sampling import params_of
from malmoi.server.sse import while_connected


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoint over `catalogue`."""
    router = APIRouter(tags=["completions"])

    @router.post("/v1/completions", response_model=None)
    async def complete_text(body: CompletionBody, request: Request) -> Response | dict[str, Any]:
        """Go on with a text."""
        llm = await catalogue.get(body.model)
        prompts = each_of(body.prompt, param="prompt")
        params, form = params_of(body, llm.llm.default_params), TextForm()
        if body.echo:
            form = EchoForm(llm.llm, prompts, params)
            params = replace(params, prompt_logprobs=params.logprobs)
        answered = Answered(form, catalogue.name(body.model))
        if body.stream:
            _check_stream(body, prompts)
            return await answer(request, llm.deltas(prompts[0], params), body, answered)
        completions = all_of(completion_of(llm.deltas(prompt, params)) for prompt in prompts)
        return answered.whole(*await while_connected(request, completions))

    return router


def _check_stream(body: CompletionBody, prompts: Sequence[object]) -> None:
    for name, is_asked in (("prompt", len(prompts) > 1), ("echo", body.echo)):
        if is_asked:
            raise ServerError(
                "a stream is of one prompt, without it. Leave out stream, or ask for each prompt alone.", param=name
            )


class TextForm(Form):
    """The choices of a completion: texts, or pieces of them."""

    id_prefix, whole_kind, chunk_kind = "cmpl-", "text_completion", "text_completion"

    def __init__(self) -> None:
        self._offsets: dict[int, Offsets] = defaultdict(Offsets)

    def opening(self, index: int) -> dict[str, Any] | None:
        return None

    def added(self, index: int, delta: Delta) -> dict[str, Any]:
        return {
            "index": index,
            "text": delta.text,
            "logprobs": _logprobs(delta.logprobs, self._offsets[index]),
            "finish_reason": None,
        }

    def ended(self, index: int, reason: str) -> dict[str, Any]:
        return {"index": index, "text": "", "logprobs": None, "finish_reason": reason}

    def whole(self, index: int, completion: Completion) -> dict[str, Any]:
        return {
            "index": index,
            "text": completion.text,
            "logprobs": _logprobs(completion.logprobs or (), Offsets()),
            "finish_reason": completion.finish_reason,
        }


class Offsets:
    r"""Where tokens begin in a text, in characters, as they come. One inside of a character begins where that does.

    >>> def token(piece): return TokenLogprob(token=0, bytes=piece, logprob=-1.0, probability=1.0)
    >>> offsets = Offsets()
    >>> offsets.of([token(b"a"), token(b"\xea\xb0"), token(b"\x80")]), offsets.of([token(b"b")])
    ([0, 1, 1], [2])
    """

    def __init__(self) -> None:
        self._utf8 = codecs.getincrementaldecoder("utf-8")("ignore")
        self._length = 0

    def of(self, tokens: Sequence[TokenLogprob]) -> list[int]:
        """The places of the next tokens."""
        places = []
        for token in tokens:
            places.append(self._length)
            self._length += len(self._utf8.decode(token.bytes))
        return places


class EchoForm(TextForm):
    """The prompt before its answer; with likelihoods, those of its tokens too, of which the first has none.

    Raises ServerError for an encoder-decoder, whose prompt nothing predicts.
    """

    def __init__(self, llm: LLM, prompts: Sequence[str | list[int]], params: SamplingParams) -> None:
        super().__init__()
        if isinstance(llm.model, EncoderDecoder):
            raise ServerError("this model reads a prompt and predicts none of it. Leave out echo.", param="echo")
        self._tokenizer, self._num_texts = llm.tokenizer, params.n
        self._prompts = [
            (prompt if isinstance(prompt, str) else llm.tokenizer.decode(prompt), llm.builder.prompt_ids(prompt)[0])
            for prompt in prompts
        ]

    def whole(self, index: int, completion: Completion) -> dict[str, Any]:
        text, first = self._prompts[index // self._num_texts]
        answer = {**super().whole(index, completion), "text": text + completion.text}
        if completion.logprobs is not None:
            opening = self._tokenizer.token_bytes(first, at_start=True)
            unknown = TokenLogprob(token=first, bytes=opening, logprob=0.0, probability=1.0)
            tokens = [unknown, *(completion.prompt_logprobs or ()), *completion.logprobs]
            answer["logprobs"] = _logprobs(tokens, Offsets())
            answer["logprobs"]["token_logprobs"][0] = answer["logprobs"]["top_logprobs"][0] = None
        return answer


def _logprobs(tokens: Sequence[TokenLogprob], offsets: Offsets) -> dict[str, Any] | None:
    """In OpenAI's older form: lists side by side. Of candidates that read alike the likeliest counts."""
    if not tokens:
        return None
    return {
        "tokens": list(map(piece, tokens)),
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{piece(one): one.logprob for one in reversed(token.top)} for token in tokens],
        "text_offset": offsets.of(tokens),
    }
