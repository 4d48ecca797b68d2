"""`/v1/completions`: a text or its ids go in, or several, what comes after comes out.

    CompletionBody -> prompts, params_of -> Chosen -> Writer.answer of each -> chunks, or one object

Read next: `text_form.py`, how its choices look; `each.py`, several at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from statistics import fmean
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from malmoi.engine import SamplingParams
from malmoi.llm import Completion, TokenLogprob
from malmoi.llm.prompt import Infill, Prompt
from malmoi.server.answered import completion_of, headers_of, usage
from malmoi.server.catalogue.catalogue import Catalogue
from malmoi.server.catalogue.writer import Steps
from malmoi.server.each import all_of, each_of
from malmoi.server.errors import ServerError
from malmoi.server.openai.completion_bodies import CompletionBody
from malmoi.server.openai.form import OpenAIAnswer
from malmoi.server.openai.text_form import Echo, EchoForm, TextForm
from malmoi.server.sampling import params_of
from malmoi.server.sse import event_stream
from malmoi.server.strict_json import StrictRoute


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoint over `catalogue`."""
    router = APIRouter(tags=["completions"], route_class=StrictRoute)

    @router.post("/v1/completions", response_model=None)
    async def complete_text(body: CompletionBody, request: Request) -> Response:
        """Go on with a text, or fill the gap before `suffix`."""
        texts = each_of(body.prompt, param="prompt")
        prompts = texts if body.suffix is None else [_gap(text, body) for text in texts]
        chosen = await catalogue.choose(body.model, prompts[0], request.headers)
        params = _params_of(body, chosen.writer.default_params)
        ask = partial(chosen.writer.answer, priority=body.priority, salt=body.cache_salt)
        form = TextForm()
        if body.echo:
            echoes = [Echo.of(text, chosen.writer.local) for text in texts]
            params = replace(params, prompt_logprobs=params.logprobs)
            read = await _read(ask, texts, params) if body.stream else []
            form = EchoForm(echoes, num_texts=body.n, read=read)
        answered = OpenAIAnswer(
            form, chosen, body.model, num_texts=body.n, has_usage=body.stream_options.include_usage
        )
        steps = [ask(prompt, params) for prompt in prompts]
        if body.stream:
            return await event_stream(answered.events(*steps), answered.wire, headers=headers_of(chosen))
        completions = await all_of(map(completion_of, steps))
        answer = answered.whole(*(_told(one, body) for one in completions))
        if body.best_of is not None:  # what was written and is not told has its price, too
            answer["usage"] = usage(*completions)
        return JSONResponse(answer, headers=headers_of(chosen))

    return router


def _gap(text: str | list[int], body: CompletionBody) -> Prompt:
    """What is before a gap, and the suffix behind it."""
    if not isinstance(text, str) or body.suffix is None or body.echo:
        raise ServerError(
            "suffix is what comes behind a gap in a text. Give the prompt as text, and leave out echo.",
            param="suffix",
        )
    return Infill(before=text, after=body.suffix)


def _params_of(body: CompletionBody, defaults: SamplingParams) -> SamplingParams:
    """As `params_of`, with room for all of `best_of`; for no token at all, one is asked for and not told."""
    is_echo_alone = body.max_tokens == 0 and body.echo
    if body.stream and (is_echo_alone or body.best_of is not None):
        name = "max_tokens" if is_echo_alone else "best_of"
        raise ServerError(f"{name}={getattr(body, name)} is not for a stream. Leave out one.", param=name)
    if is_echo_alone and body.best_of is not None:
        raise ServerError(
            f"best_of={body.best_of} chooses among answers, and max_tokens=0 is none. Leave out one.",
            param="best_of",
        )
    asked = body.model_copy(update={"max_tokens": 1}) if is_echo_alone else body
    likelihoods: dict[str, Any] = {} if body.logprobs is None else {"logprobs": body.logprobs}
    params = params_of(asked, defaults, **likelihoods)
    if body.best_of is None:
        return params
    if body.best_of < body.n:
        raise ServerError(
            f"best_of={body.best_of} is fewer than n={body.n}. Raise it, or leave it out.", param="best_of"
        )
    return replace(params, n=body.best_of, logprobs=params.logprobs or True)


async def _read(
    ask: Callable[[Prompt, SamplingParams], Steps], texts: Sequence[str | list[int]], params: SamplingParams
) -> list[Sequence[TokenLogprob]]:
    """The likelihoods of the tokens of each text but the first, before there is an answer; nothing if not asked for.

    The answer need not read the texts again, since beginnings that were seen before are found.
    """
    if params.prompt_logprobs is False:
        return []
    once = replace(params, n=1, beam_width=1, max_tokens=1, min_tokens=0)
    completions = await all_of(completion_of(ask(text, once)) for text in texts)
    return [one.prompt_logprobs or () for one in completions]


def _told(completion: Completion, body: CompletionBody) -> Completion:
    """What of an answer the body has asked for: of `best_of` the `n` likeliest by the token; no token for 0."""
    if body.max_tokens == 0:
        return replace(_emptied(completion), siblings=list(map(_emptied, completion.siblings)))
    if body.best_of is None:
        return completion
    texts = sorted([completion, *completion.siblings], key=_mean_logprob, reverse=True)[: body.n]
    if body.logprobs is None:
        texts = [replace(one, logprobs=None) for one in texts]
    return replace(texts[0], prompt_logprobs=completion.prompt_logprobs, siblings=texts[1:])


def _mean_logprob(completion: Completion) -> float:
    return fmean(one.logprob for one in completion.logprobs or ())


def _emptied(completion: Completion) -> Completion:
    return replace(
        completion,
        text="",
        tokens=[],
        logprobs=None if completion.logprobs is None else [],
        finish_reason="length",
        usage=replace(completion.usage, completion_tokens=0),
    )
