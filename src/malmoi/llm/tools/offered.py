"""What a request offers to be called: its tools, checked. Read next: `calling.py`."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from malmoi.core.errors import RequestError
from malmoi.llm.grammar import check_keywords
from malmoi.llm.prompt import CHOICES, MOST_TOOLS, ChatPrompt

NAME = re.compile(r"[^\s\"'{}\[\]<>｜]{1,128}")
"""What may be called: none of the characters that stand around a name in a format."""

_NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
"""The arguments of what takes none."""


@dataclass(frozen=True)
class Tool:
    """A function that a model may call: what a template is shown of it, its name, and the JSON Schema of its arguments.

    `is_strict`: a schema with keywords that are not known, or cannot be followed, is refused; else those do not bind.
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
        if name in CHOICES:
            raise _refusal(described, f"tool_choice={name!r} means something else")
        if schema is not None and not isinstance(schema, Mapping):
            raise _refusal(described, "its parameters are no JSON Schema, which is an object")
        schema, is_strict = schema or _NOTHING, function.get("strict") is True
        try:
            _check(schema)
            if is_strict:
                check_keywords(schema)
        except ValueError as problem:
            raise _refusal(described, f"in its parameters, {str(problem).rstrip('.')}") from None
        # How a schema is enforced is between whoever asks and the grammar: models were not taught the word.
        shown = {key: value for key, value in function.items() if key != "strict"}
        return cls({**described, "function": shown}, name, schema, is_strict)


def offered(prompt: ChatPrompt) -> list[Tool]:
    """The tools that the model is shown; none if it may not call any.

    Raises RequestError for too many, one that is none, two of a name, or a `tool_choice` that is not among them.

    >>> weather = {"type": "function", "function": {"name": "weather"}}
    >>> [tool.name for tool in offered(ChatPrompt(messages=[], tools=[weather]))]
    ['weather']
    >>> offered(ChatPrompt(messages=[], tools=[weather], tool_choice="none"))
    []
    """
    if len(prompt.tools) > MOST_TOOLS:
        raise RequestError(
            f"there are {len(prompt.tools):,} tools, and {MOST_TOOLS:,} are the most. Give those that the conversation "
            "needs."
        )
    tools = [Tool.of(tool) for tool in prompt.tools]
    names = Counter(tool.name for tool in tools)
    if twice := [name for name, count in names.items() if count > 1]:
        raise RequestError(f"two tools have the name {twice[0]!r}. Give each its own.")
    if prompt.tool_choice not in (*CHOICES, *names):
        raise RequestError(
            f"tool_choice={prompt.tool_choice!r:.80} is none of the tools: {', '.join(names) or 'there are none'}. "
            "Name one, or give 'auto', 'none' or 'required'."
        )
    if prompt.tool_choice == "required" and not tools:
        raise RequestError(
            "tool_choice='required', and there are no tools. Give some, or leave tool_choice out."
        )
    return [] if prompt.tool_choice == "none" else tools


def _check(schema: Mapping[str, Any]) -> None:
    """Raise ValueError for what cannot be the schema of arguments: they are an object, written in the order of it."""
    if schema.get("type", "object") != "object":
        raise ValueError(f"the type is {schema['type']!r:.80}, and arguments are an 'object'")
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, Mapping):
        raise ValueError("properties is no object")
    if not isinstance(required, list | tuple) or not all(isinstance(name, str) for name in required):
        raise ValueError("required is no list of names")
    for name, value in properties.items():
        if not isinstance(value, Mapping | bool):
            raise ValueError(f"the property {name!r:.80} is no schema")
        if isinstance(value, Mapping) and not isinstance(value.get("enum", []), list | tuple):
            raise ValueError(f"the enum of {name!r:.80} is no list")


def _refusal(described: Any, problem: str) -> RequestError:
    text = json.dumps(described, ensure_ascii=False, default=repr)
    return RequestError(f"the tool {text:.80} cannot be offered: {problem}. Correct it.")
