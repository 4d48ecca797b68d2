"""What Anthropic's clients may say: `bodies.py` for `/v1/messages`. Read next: `prompt.py`."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from malmoi.server.bodies import Body
from malmoi.server.thinking import EFFORT
from malmoi.server.tools import NO_ARGUMENTS, STRICT

Content = str | list[dict[str, Any]]
"""Text, or blocks of it, of images, of calls and their results, and of thoughts."""


class AnthropicMessage(Body):
    """What somebody said."""

    role: Literal["user", "assistant"] = Field(description="Who said it.")
    content: Content = Field(description="Text, or blocks: text, image, tool_use, tool_result, thinking.")


class AnthropicTool(Body):
    """A function that the model may call."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(
            ("allowed_callers", "defer_loading"), "the model itself calls it, and sees it at once."
        ),
        "input_examples": "write them into the description.",
    }

    type: Literal["custom"] = Field("custom", description="The server has no tools of its own.")
    name: str = Field(description="What it is called.")
    description: str = Field("", description="What it does, for the model.")
    input_schema: dict[str, Any] = Field(NO_ARGUMENTS, description="What it takes, as a JSON schema.")
    strict: bool = Field(False, description=STRICT)
    eager_input_streaming: bool = Field(
        True, description="Always so here: arguments come as they are written."
    )
    cache_control: dict[str, Any] | None = Field(
        None, description="Changes nothing: beginnings seen before are found without."
    )


class AnthropicToolChoice(Body):
    """Whether the model has to call something."""

    type: Literal["auto", "any", "tool", "none"] = Field(
        description="The model decides, has to call one, has to call this one, is shown none."
    )
    name: str | None = Field(None, description="Of the type tool: which.")
    disable_parallel_tool_use: bool = Field(False, description="One call at most in a message.")


class Thinking(Body):
    """Whether the model thinks first."""

    type: Literal["enabled", "adaptive", "disabled"] = Field(
        description="enabled: up to a budget; adaptive: as long as it takes."
    )
    budget_tokens: int | None = Field(None, description="Of the type enabled: at most so many tokens.")
    display: Literal["summarized"] = Field("summarized", description="A thought is told as it is.")


class OutputFormat(Body):
    """The form of an answer."""

    type: Literal["json_schema"] = Field(description="There is one kind.")
    schema_: dict[str, Any] = Field(alias="schema", description="What the answer has to be.")


class OutputConfig(Body):
    """What is asked of an answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = Field(
        None, description=f"{EFFORT}. Without `thinking`, or with its type adaptive."
    )
    format: OutputFormat | None = Field(None, description="The form of the answer.")


class CountTokensBody(Body):
    """The body of /v1/messages/count_tokens: a conversation."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        "mcp_servers": "the server opens no pages.",
        "container": "there are no containers here.",
        "context_management": "send the messages that count.",
        "cache_control": "beginnings that were seen before are found without.",
    }

    model: str = Field("", description="A name of /v1/models; not given: the first.")
    messages: list[AnthropicMessage] = Field(
        description="The conversation, oldest first. If the last is the assistant's, it is gone on with."
    )
    system: Content | None = Field(None, description="What the model is told before.")
    tools: list[AnthropicTool] = Field([], description="What the model may call.")
    tool_choice: AnthropicToolChoice | None = Field(None, description="Whether it has to.")
    thinking: Thinking | None = Field(None, description="Whether it thinks first, and how much.")
    output_config: OutputConfig | None = Field(None, description="What is asked of the answer.")


class MessagesBody(CountTokensBody):
    """The body of /v1/messages."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        **CountTokensBody.REFUSED,
        "service_tier": "there is one.",
        "speed": "there is one.",
        "diagnostics": "there are none.",
        "inference_geo": "the server is where it is.",
    }

    max_tokens: int = Field(description="At most so many, those of thoughts included.")
    stream: bool = Field(False, description="Send the answer as it comes.")
    temperature: float | None = Field(None, description="0: always the likeliest token.")
    top_p: float | None = Field(None, description="Of the likeliest tokens, those that make up this much.")
    top_k: int | None = Field(None, description="Of so many of the likeliest tokens only; 0: all.")
    stop_sequences: list[str] = Field([], description="The text ends before the first of these.")
    metadata: dict[str, Any] = Field({}, description="For your own records, it changes nothing.")
