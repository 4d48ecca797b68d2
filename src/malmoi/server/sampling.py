"""A body's parameters, as `SamplingParams` on top of what the model's own files say.

Place in the flow: OpenAI's endpoints add to it what only they read. Read next: `openai/chat_prompt.py`.
"""

from dataclasses import replace
from typing import Any

from malmoi.engine import SamplingParams
from malmoi.server.bodies import SamplingBody
from malmoi.server.errors import ServerError

_SAME_NAME = (
    "n", "max_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p", "typical_p", "seed", "stop",
    "frequency_penalty", "presence_penalty", "repetition_penalty", "ignore_eos", "regex", "grammar", "choice",
    "script_lock", "latin_share", "beam_width", "length_penalty", "early_stopping",
)  # fmt: skip


def params_of(body: SamplingBody, defaults: SamplingParams, **more: Any) -> SamplingParams:
    """What the body asks for, and `more` that only its endpoint reads; what it leaves out is as in `defaults`.

    Raises RequestError for a value out of its range, ServerError for two that contradict each other.

    >>> params_of(SamplingBody(top_p=0.5), SamplingParams(temperature=0.7)).temperature
    0.7
    """
    if "stream_options" in body.model_fields_set and not body.stream:
        raise ServerError(
            "stream_options is about a stream. Give stream=true, or leave it out.", param="stream_options"
        )
    if body.latin_share is not None and body.script_lock is None:
        raise ServerError(
            "latin_share is about a locked script. Give script_lock, or leave it out.", param="latin_share"
        )
    for name in ("length_penalty", "early_stopping"):
        if getattr(body, name) is not None and (body.beam_width or defaults.beam_width) == 1:
            raise ServerError(
                f"{name} is about a search. Give beam_width of 2 or more, or leave it out.", param=name
            )
    given = {name: getattr(body, name) for name in _SAME_NAME if name in body.model_fields_set}
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    if body.logit_bias is not None:
        given["logit_bias"] = {_id(token): bias for token, bias in body.logit_bias.items()}
    return replace(defaults, **(given | more))


def likelihoods(top: int | None, *, is_asked: bool) -> dict[str, Any]:
    """The parameters of likelihoods. Raises ServerError for some beside a token where there are none of it."""
    if top is not None and not is_asked:
        raise ServerError(
            "top_logprobs needs logprobs=true. Give it, or leave both out.", param="top_logprobs"
        )
    return {"logprobs": top or True} if is_asked else {}


def form_of(kind: str, schema: dict[str, Any] | None) -> dict[str, Any]:
    """The parameters of a response format. Raises ServerError for a type that is not known."""
    match kind, schema:
        case "text", None:
            return {}
        case "json_object", None:
            return {"json_schema": {"type": "object"}}
        case "json_schema", dict():
            return {"json_schema": schema}
    raise ServerError(
        f"response_format is of the type {kind!r}. Give text, json_object, or json_schema with its json_schema.",
        param="response_format",
    )


def _id(token: str) -> int:
    if not token.isdecimal() or len(token) > len(str(2**31)):
        raise ServerError(
            f"logit_bias has {token!r:.40}, which is no token's id. Give ids.", param="logit_bias"
        )
    return int(token)
