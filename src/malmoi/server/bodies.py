"""What a request may say. Whatever else it says is an error that names it: nothing is ignored in silence.

A parameter of OpenAI's that is not here yet is in `REFUSED`, with what to do instead. `null` counts as not given, as
OpenAI's own clients send it. Place in the flow: FastAPI reads a body into one of these, `sampling.py` reads the
parameters. Read next: `openai/completion_bodies.py` and `openai/chat_bodies.py`, what only one of both has.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Texts = str | list[str] | list[int] | list[list[int]]
"""One or several, as text or as ids."""


class RefusedParameter(ValueError):
    """A parameter that is known and does nothing here; `param` is its name."""

    def __init__(self, param: str, reason: str) -> None:
        super().__init__(f"{param!r} is not supported: {reason}")
        self.param = param


class Body(BaseModel):
    """A JSON object with these fields and no others.

    >>> TokenizeBody.model_validate({"text": "말", "model": None})
    TokenizeBody(model='', text='말')
    """

    model_config = ConfigDict(extra="forbid", strict=True)
    REFUSED: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        given = {name: value for name, value in given.items() if value is not None}
        for name, reason in cls.REFUSED.items():
            if given.pop(name, []) != []:  # an empty list asks for nothing, and clients send it
                raise RefusedParameter(name, reason)
        return given


class StreamOptions(Body):
    """How a stream ends."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        "continuous_usage_stats": "what was used is known at the end. Give include_usage.",
        "include_obfuscation": "chunks are as long as what they say.",
    }

    include_usage: bool = Field(
        False, description="One more chunk at the end, with the tokens that were used."
    )


class SamplingBody(Body):
    """What both kinds of completion have: how tokens are chosen, and when they end."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        "stop_token_ids": "give their text as `stop`.",
        "bad_words": "give their ids as `logit_bias`, with -100 each.",
        "allowed_token_ids": "give `choice`, `regex` or `grammar`.",
        "include_stop_str_in_output": "a text ends before it.",
        "skip_special_tokens": "they are never text. With `logprobs` each token has its id and bytes.",
        "return_token_ids": "with `logprobs` each token has its id; /v1/chat/render has those of a prompt.",
        "truncate_prompt_tokens": "nothing is cut off. Send less.",
        "use_beam_search": "give `beam_width`.",
        **dict.fromkeys(
            ("guided_json", "structured_outputs"), "give `response_format`, `regex`, `choice` or `grammar`."
        ),
        "guided_regex": "give `regex`.",
        "guided_choice": "give `choice`.",
        "guided_grammar": "give `grammar`.",
    }

    model: str = Field("", description="A name of /v1/models; not given: the first.")
    stream: bool = Field(False, description="Send the answer as it comes.")
    stream_options: StreamOptions = Field(
        default_factory=lambda: StreamOptions(include_usage=False), description="Only with `stream`."
    )
    n: int = Field(1, description="How many answers; the prompt is computed once.")
    max_tokens: int | None = Field(None, description="At most so many; else what the context has room for.")
    min_tokens: int = Field(0, description="No end before so many.")
    temperature: float | None = Field(None, description="0: always the likeliest token.")
    top_p: float | None = Field(None, description="Of the likeliest tokens, those that make up this much.")
    top_k: int | None = Field(None, description="Of so many of the likeliest tokens only; 0: all.")
    min_p: float | None = Field(None, description="Only tokens this fraction as likely as the likeliest.")
    typical_p: float | None = Field(
        None, description="Of the tokens whose surprise is nearest to the expected."
    )
    seed: int | None = Field(None, description="The same request gives the same answer.")
    stop: str | list[str] | None = Field(None, description="The text ends before the first of these.")
    frequency_penalty: float | None = Field(None, description="-2 to 2, for each time that a token occurred.")
    presence_penalty: float | None = Field(None, description="-2 to 2, once for a token that occurred.")
    repetition_penalty: float | None = Field(
        None, description="Divides the logit of what has occurred; 1 is off."
    )
    logit_bias: dict[str, float] | None = Field(None, description="Id -> what is added; -100 forbids it.")
    beam_width: int | None = Field(
        None, description="More than 1: search for the likeliest answers, so many beginnings at a time."
    )
    length_penalty: float | None = Field(
        None, description="Of a search, -10 to 10: the more, the longer its answers; 0: by the sum alone."
    )
    early_stopping: bool | Literal["never"] | None = Field(
        None, description="Of a search: end when there are `beam_width` answers."
    )
    ignore_eos: bool = Field(False, description="Go on behind an end of text.")
    regex: str | None = Field(None, description="The whole answer matches it.")
    grammar: str | None = Field(None, description="The whole answer is of it: Lark or GBNF.")
    choice: list[str] | None = Field(None, description="The answer is one of these.")
    script_lock: list[str] | None = Field(None, description='The scripts of the answer, such as ["hangul"].')
    latin_share: float | None = Field(None, description="How much Latin a locked answer may have, 0 to 1.")
    priority: int = Field(0, ge=0, le=1000, description="More than 0: later than others, for what can wait.")
    cache_salt: str = Field(
        "", description="Only requests with the same one find what this has computed: one a tenant."
    )
    user: str = Field("", description="Who asks; for your own records, it changes nothing.")


class TokenizeBody(Body):
    """The body of /tokenize."""

    model: str = Field("", description="A name of /v1/models; not given: the first.")
    text: str = Field(description="Plain text: nothing in it becomes a special token.")


class DetokenizeBody(Body):
    """The body of /detokenize."""

    model: str = Field("", description="A name of /v1/models; not given: the first.")
    tokens: list[int] = Field(description="Ids.")
