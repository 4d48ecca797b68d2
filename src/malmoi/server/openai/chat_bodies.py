"""What may be said to `/v1/chat/completions` beside what every completion has. Read next: `chat_prompt.py`."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from malmoi.server.bodies import Body, SamplingBody
from malmoi.server.thinking import EFFORT, Effort
from malmoi.server.tools import Function, Tool


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


class Named(Body):
    """The name of a function."""

    name: str = Field(description="One of `tools`.")


class NamedTool(Body):
    """One tool."""

    type: Literal["function"] = Field(description="There is one kind.")
    function: Named = Field(description="Which.")


class SomeTools(Body):
    """Several tools."""

    mode: Literal["auto", "required"] = Field(description="Whether one has to be called.")
    tools: list[NamedTool] = Field(description="Those that may be called; the model is shown no others.")


class AllowedTools(Body):
    """A choice among several tools."""

    type: Literal["allowed_tools"] = Field(description="That it is one.")
    allowed_tools: SomeTools = Field(description="Which.")


class TemplateVariables(Body):
    """Variables of a chat format."""

    enable_thinking: bool | None = Field(None, description="Whether the model thinks first, if it can.")


class ChatBody(SamplingBody):
    """The body of /v1/chat/completions."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        **SamplingBody.REFUSED,
        "audio": "answers are text.",
        "prediction": "use speculation of the server: malmoi serve --speculation lookup.",
        "web_search_options": "the server opens no pages.",
        "service_tier": "there is one.",
        "verbosity": "say in a message how long the answer is to be.",
        "chat_template": "a model has one chat format.",
        "documents": "write them into a message.",
        "prompt_logprobs": "use /v1/completions with `echo` and `logprobs`.",
        "echo": "use /v1/completions, or /v1/chat/render.",
    }

    messages: list[dict[str, Any]] = Field(
        description="The conversation, oldest first. With `prefix` true the assistant's last one is gone on with."
    )
    max_completion_tokens: int | None = Field(
        None, ge=1, le=2**31, description="The newer name of `max_tokens`."
    )
    logprobs: bool = Field(
        False, description="How likely each token was, those of thoughts and calls and their marks included."
    )
    top_logprobs: int | None = Field(
        None, description="And so many of the likeliest beside it; with `logprobs`."
    )
    response_format: ResponseFormat | None = Field(
        None, description="Free text, any JSON object, or a schema."
    )
    tools: list[Tool] = Field([], description="What the model may call.")
    tool_choice: Literal["auto", "none", "required"] | NamedTool | AllowedTools | None = Field(
        None, description="The model decides, shows none, has to call one, this one, or one of these."
    )
    parallel_tool_calls: bool = Field(True, description="Several calls in one message.")
    functions: list[Function] = Field([], description="The older form of `tools`.")
    function_call: Literal["auto", "none"] | Named | None = Field(
        None, description="The older form of `tool_choice`."
    )
    reasoning_effort: Effort | None = Field(None, description=f"{EFFORT}.")
    thinking_budget: int | None = Field(
        None, description="The same as a number: at most so many tokens; 0: none."
    )
    chat_template_kwargs: TemplateVariables | None = Field(None, description="The same as a switch.")
    continue_final_message: bool = Field(
        False, description="Go on with the last message, which is the assistant's."
    )
    add_generation_prompt: bool | None = Field(
        None, description="False with `continue_final_message`, else true."
    )
    beginning: list[int] = Field([], description="Ids that the answer begins with; what comes after is told.")
    modalities: list[Literal["text"]] = Field([], description="Answers are text.")
    store: Literal[False] = Field(False, description="Nothing is stored.")
    metadata: dict[str, str] = Field({}, description="For your own records, it changes nothing.")
    safety_identifier: str = Field("", description="As `user`.")
    prompt_cache_key: str = Field("", description="As `user`: beginnings seen before are found without.")
