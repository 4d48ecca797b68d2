"""What a request offers to be called: its tools, checked. Read next: `calling.py`."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from malmoi.core.errors import RequestError
from malmoi.llm.prompt import ChatPrompt

NAME = re.compile(r"[^\s\"'{}\[\]<>｜]{1,128}")
"""What may be called: none of the characters that stand around a name in a format."""

_NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
"""The arguments of what takes none."""


@dataclass(frozen=True)
class Tool:
    """A function that a model may call: what a template is shown of it, its name, and the JSON Schema of its arguments.

    `is_strict`: all of the schema is to bind; else what of it cannot be followed does not.
    """

    described: Mapping[str, Any]
    name: str
    schema: Mapping[str, Any]
    is_strict: bool = False

    @classmethod
    def of(cls, described: Any) -> "Tool":
        """Read one as OpenAI writes it. Raises RequestError if it is none."""
        function = described.get("function") if isinstance(described, Mapping) else None
        if not isinstance(function, Mapping) or described.get("type", "function") != "function":
            raise _refusal(described, 'not of the form {"type": "function", "function": {"name": ...}}')
        name, schema = function.get("name"), function.get("parameters")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise _refusal(
                described, "its name is no word of at most 128 characters without quotes and brackets"
            )
        if schema is not None and not isinstance(schema, Mapping):
            raise _refusal(described, "its parameters are no JSON Schema, which is an object")
        return cls(described, name, schema or _NOTHING, function.get("strict") is True)


def offered(prompt: ChatPrompt) -> list[Tool]:
    """The tools that the model is shown; none if it may not call any.

    Raises RequestError for one that is none, two of a name, or a `tool_choice` that is not among them.

    >>> weather = {"type": "function", "function": {"name": "weather"}}
    >>> [tool.name for tool in offered(ChatPrompt(messages=[], tools=[weather]))]
    ['weather']
    >>> offered(ChatPrompt(messages=[], tools=[weather], tool_choice="none"))
    []
    """
    tools = [Tool.of(tool) for tool in prompt.tools]
    names = [tool.name for tool in tools]
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise RequestError(f"two tools have the name {twice[0]!r}. Give each its own.")
    if prompt.tool_choice not in ("auto", "none", "required", *names):
        raise RequestError(
            f"tool_choice={prompt.tool_choice!r:.80} is none of the tools: {', '.join(names) or 'there are none'}. "
            "Name one, or give 'auto', 'none' or 'required'."
        )
    if prompt.tool_choice == "required" and not tools:
        raise RequestError(
            "tool_choice='required', and there are no tools. Give some, or leave tool_choice out."
        )
    return [] if prompt.tool_choice == "none" else tools


def _refusal(described: Any, problem: str) -> RequestError:
    text = json.dumps(described, ensure_ascii=False, default=repr)
    return RequestError(f"the tool {text:.80} cannot be offered: {problem}. Correct it.")
