"""What may be said to `/v1/responses`: `bodies.py` for that endpoint. Read next: `responses.py`."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from malmoi.server.bodies import Body
from malmoi.server.thinking import EFFORT, Effort
from malmoi.server.tools import Function


class TextFormat(Body):
    """The form of an answer, flat as this endpoint has it."""

    type: str = Field(description="text, json_object or json_schema")
    name: str = Field("", description="For your own records.")
    description: str = Field("", description="For your own records.")
    schema_: dict[str, Any] | None = Field(None, alias="schema", description="Of json_schema.")
    strict: bool = Field(True, description="Always so here: a schema is kept to the letter.")


class TextSettings(Body):
    """What is asked of the text."""

    REFUSED: ClassVar[Mapping[str, str]] = {"verbosity": "say in a message how long the answer is to be."}

    format: TextFormat = Field(
        default_factory=lambda: TextFormat.model_validate({"type": "text"}),
        description="The form of the answer.",
    )


class FunctionTool(Function):
    """A function that the model may call, flat as this endpoint has it."""

    type: Literal["function"] = Field(description="The server has no tools of its own.")


class NamedFunction(Body):
    """One function."""

    type: Literal["function"] = Field(description="There is one kind.")
    name: str = Field(description="One of `tools`.")


class AllowedFunctions(Body):
    """A choice among several functions."""

    type: Literal["allowed_tools"] = Field(description="That it is one.")
    mode: Literal["auto", "required"] = Field(description="Whether one has to be called.")
    tools: list[NamedFunction] = Field(description="Those that may be called; the model is shown no others.")


class Reasoning(Body):
    """How a model thinks before it answers."""

    effort: Effort | None = Field(None, description=f"{EFFORT}.")
    summary: Literal["auto", "detailed"] | None = Field(None, description="The thought is told as it is.")
    generate_summary: Literal["auto", "detailed"] | None = Field(
        None, description="The older name of `summary`."
    )


class ResponsesBody(Body):
    """The body of /v1/responses."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        "max_tool_calls": "the server calls nothing itself. With parallel_tool_calls=false there is one call.",
        "background": "ask, and read the stream.",
        "top_logprobs": "likelihoods are in /v1/chat/completions.",
        "conversation": "give previous_response_id.",
        "context_management": "send the messages that count.",
        "prompt": "send the text itself.",
        "service_tier": "there is one.",
        "stream_options": "a stream always ends with the tokens that were used.",
        "prompt_cache_retention": "beginnings are kept as long as there is room.",
    }

    model: str = Field("", description="A name of /v1/models; not given: the first.")
    input: str | list[dict[str, Any]] = Field(
        description="What the user says, or items: messages, function_call, function_call_output, reasoning."
    )
    instructions: str | None = Field(
        None, description="What the model is told before; not part of what is kept."
    )
    previous_response_id: str | None = Field(None, description="The answer after which this goes on.")
    store: bool = Field(True, description="Keep the answer, for previous_response_id; the oldest make room.")
    stream: bool = Field(False, description="Send the answer as it comes.")
    max_output_tokens: int | None = Field(None, description="At most so many.")
    temperature: float | None = Field(None, description="0: always the likeliest token.")
    top_p: float | None = Field(None, description="Of the likeliest tokens, those that make up this much.")
    text: TextSettings = Field(
        default_factory=TextSettings, description="Free text, any JSON object, or a schema."
    )
    tools: list[FunctionTool] = Field([], description="What the model may call.")
    tool_choice: Literal["auto", "none", "required"] | NamedFunction | AllowedFunctions = Field(
        "auto", description="The model decides, shows none, has to call one, this one, or one of these."
    )
    parallel_tool_calls: bool = Field(True, description="Several calls in one answer.")
    reasoning: Reasoning = Field(
        default_factory=lambda: Reasoning.model_validate({}), description="How it thinks first."
    )
    include: list[Literal["reasoning.encrypted_content"]] = Field(
        [], description="Changes nothing: a thought is in the summary of its item, and sent back with it."
    )
    truncation: Literal["disabled"] = Field(
        "disabled", description="Too long is an error; nothing is cut off."
    )
    metadata: dict[str, str] = Field({}, description="Comes back with the answer.")
    user: str = Field("", description="Who asks; for your own records, it changes nothing.")
    safety_identifier: str = Field("", description="As `user`.")
    prompt_cache_key: str = Field("", description="As `user`: beginnings seen before are found without.")
