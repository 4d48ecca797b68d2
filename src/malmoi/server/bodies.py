"""What a request may say. Whatever else it says is an error that names it: nothing is ignored in silence.

A parameter of OpenAI's that is not here yet is in `REFUSED`, with what to do instead. `null` counts as not given, as
OpenAI's own clients send it. Place in the flow: FastAPI reads a body into one of these, `sampling.py` reads the
parameters. Read next: `chat.py`.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

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

    >>> ChatBody.model_validate({"messages": [], "tools": None, "temperature": 0.5}).temperature
    0.5
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

    include_usage: bool = Field(
        False, description="One more chunk at the end, with the tokens that were used."
    )


class SamplingBody(Body):
    """What both kinds of completion have: how tokens are chosen, and when they end."""

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
    ignore_eos: bool = Field(False, description="Go on behind an end of text.")
    regex: str | None = Field(None, description="The whole answer matches it.")
    grammar: str | None = Field(None, description="The whole answer is of it: Lark or GBNF.")
    choice: list[str] | None = Field(None, description="The answer is one of these.")
    script_lock: list[str] | None = Field(None, description='The scripts of the answer, such as ["hangul"].')
    latin_share: float | None = Field(None, description="How much Latin a locked answer may have, 0 to 1.")


class JsonSchema(Body):
    """A schema with OpenAI's wrapping."""

    name: str = Field("", description="For your own records.")
    description: str = Field("", description="For your own records.")
    schema_: dict[str, Any] = Field(
        {"type": "object"}, alias="schema", description="What the answer has to be; left out: any object."
    )
    strict: bool = Field(True, description="Always so here: a schema is kept to the letter.")


class ResponseFormat(Body):
    """The form of an answer."""

    type: str = Field(description="text, json_object or json_schema")
    json_schema: JsonSchema | None = Field(None, description="Of the type json_schema.")


class ChatBody(SamplingBody):
    """The body of /v1/chat/completions."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        "tools": "write what the model may call into the system message.",
        "tool_choice": "there are no tools here yet.",
        "parallel_tool_calls": "there are no tools here yet.",
        "functions": "there are no tools here yet.",
        "function_call": "there are no tools here yet.",
        "reasoning_effort": "the models here do not think first.",
        "modalities": "answers are text.",
        "audio": "answers are text.",
        "prediction": "use speculation of the server: malmoi serve --speculation lookup.",
        "web_search_options": "the server opens no pages.",
        "store": "nothing is stored.",
        "metadata": "nothing is stored, so there is nothing to label.",
        "service_tier": "there is one.",
        "verbosity": "say in a message how long the answer is to be.",
    }

    messages: list[dict[str, Any]] = Field(description="The conversation, oldest first.")
    max_completion_tokens: int | None = Field(
        None, ge=1, le=2**31, description="The newer name of `max_tokens`."
    )
    logprobs: bool = Field(False, description="How likely each token was.")
    top_logprobs: int | None = Field(
        None, description="And so many of the likeliest beside it; with `logprobs`."
    )
    response_format: ResponseFormat | None = Field(
        None, description="Free text, any JSON object, or a schema."
    )
    user: str = Field("", description="Who asks; for your own records, it changes nothing.")


class CompletionBody(SamplingBody):
    """The body of /v1/completions."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        "suffix": "no model here fills gaps.",
        "best_of": "ask for `n` answers with `logprobs` and choose.",
    }

    prompt: Texts = Field(description="What the model goes on from: a text, its ids as they are, or a list of either.")
    echo: bool = Field(
        False, description="The prompt before its answer, with `logprobs` those of its tokens; not in a stream."
    )
    logprobs: int | None = Field(None, description="So many of the likeliest tokens beside each.")
    user: str = Field("", description="Who asks; for your own records, it changes nothing.")


class TokenizeBody(Body):
    """The body of /tokenize."""

    model: str = Field("", description="A name of /v1/models; not given: the first.")
    text: str = Field(description="Plain text: nothing in it becomes a special token.")


class DetokenizeBody(Body):
    """The body of /detokenize."""

    model: str = Field("", description="A name of /v1/models; not given: the first.")
    tokens: list[int] = Field(description="Ids.")
