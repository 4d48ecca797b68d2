"""Tools: what a model may call, and which of it a request wants called. All dialects come to the same here.

    bodies of a dialect -> its own reader -> `function`, WITH_TOOLS -> ChatPrompt

Place in the flow: every endpoint for conversations puts its tools into the prompt with `with_tools`. Read next:
`openai/chat_prompt.py`, one such reader; `malmoi/llm/prompt.py`, what the model is asked then.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from malmoi.llm.completion import ToolCall
from malmoi.llm.prompt import CHOICES, MOST_TOOLS, ChatPrompt
from malmoi.server.bodies import Body
from malmoi.server.errors import ServerError
from malmoi.server.wire import as_json

NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}
STRICT = (
    "Whether a schema that cannot be followed as a whole is an error. Arguments are kept to it either way; if not "
    "strict, what of it is not understood does not bind."
)


class Function(Body):
    """A function that the model may call."""

    name: str = Field(description="What it is called.")
    description: str = Field("", description="What it does, for the model.")
    parameters: dict[str, Any] = Field(
        NO_ARGUMENTS, description="What it takes, as a JSON schema; left out: nothing."
    )
    strict: bool = Field(False, description=STRICT)


class Tool(Body):
    """What the model may call."""

    type: Literal["function"] = Field("function", description="There is one kind.")
    function: Function = Field(description="Which.")


def function(
    name: str, description: str, parameters: Mapping[str, Any], *, is_strict: bool = False
) -> dict[str, Any]:
    """A tool as `ChatPrompt` has it, and OpenAI.

    >>> function("시각", "지금 몇 시인지", NO_ARGUMENTS)["function"]["name"]
    '시각'
    """
    described = {"description": description} if description else {}
    strict = {"strict": True} if is_strict else {}
    return {
        "type": "function",
        "function": {"name": name, **described, "parameters": dict(parameters), **strict},
    }


def functions(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """`function` of each."""
    return [
        function(one.name, one.description, one.parameters, is_strict=one.strict)
        for one in (tool.function for tool in tools)
    ]


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """What a call gives, for dialects that want an object; nothing of one that was cut off on its way.

    >>> arguments_of(ToolCall("1", "날씨", '{"도시": "서울"}')), arguments_of(ToolCall("1", "날씨", '{"도시'))
    ({'도시': '서울'}, {})
    """
    try:
        given = json.loads(call.arguments, parse_constant=_refuse)
        as_json({"given": given}).encode()
    except ValueError:  # not JSON, or half a character
        return {}
    return given if isinstance(given, dict) else {}


def with_tools(
    prompt: ChatPrompt,
    tools: Sequence[Mapping[str, Any]],
    *,
    choice: str = "auto",
    allowed: Collection[str] | None = None,
    is_parallel: bool = True,
    params: tuple[str, str] = ("tools", "tool_choice"),
) -> ChatPrompt:
    """The prompt with these tools; of `allowed`, where it is given, the model is shown no others.

    `params` are what the request calls its tools and its choice. Raises ServerError for too many tools, two of one
    name, and for a choice of what is not there.

    >>> prompt = ChatPrompt(messages=[{"role": "user", "content": "몇 시?"}])
    >>> told = [function(name, "", NO_ARGUMENTS) for name in ("시각", "날씨")]
    >>> with_tools(prompt, told, choice="required", allowed=["시각"]).tools == (told[0],)
    True
    """
    of_tools, of_choice = params
    if len(tools) > MOST_TOOLS:
        raise ServerError(
            f"{of_tools} has {len(tools):,}, and {MOST_TOOLS:,} are the most. Give those that the conversation needs.",
            param=of_tools,
        )
    names = Counter(one["function"]["name"] for one in tools)
    for name, count in names.items():
        if count > 1 or name in CHOICES or not name:
            raise ServerError(
                f"{of_tools} has one called {name!r:.80}. Give each its own name, not one of {', '.join(CHOICES)}.",
                param=of_tools,
            )
    for name in [*(allowed or ()), *([] if choice in CHOICES else [choice])]:
        if name not in names:
            raise ServerError(
                f"{of_choice} is {name!r:.80}, and nothing is called so. Choose one of {of_tools}.",
                param=of_choice,
            )
    allowed = names if allowed is None else frozenset(allowed)
    shown = tuple(one for one in tools if one["function"]["name"] in allowed)
    if choice == "required" and not shown:
        raise ServerError(
            "tool_choice wants a call, and there is no tool. Give `tools`.", param="tool_choice"
        )
    return replace(prompt, tools=shown, tool_choice=choice, is_parallel=is_parallel)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
