"""How the arguments of a call are written: as a JSON object, or a tag for each; read as they come, and forced.

    text -> ArgumentReader -> the text of a JSON object, in pieces        schema -> Lark's notation

Place in the flow: a `CallFormat` has one of the two ways, `reader.py` and `calling.py` use it.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

from malmoi.core.errors import RequestError
from malmoi.llm.grammar import JSON_STYLE, in_lark
from malmoi.llm.tools.pattern import Mismatch

Schema = Mapping[str, Any]


class Taken(NamedTuple):
    """What more text has added to the JSON; where in it the arguments have ended, None if they have not."""

    piece: str
    end: int | None = None


class ArgumentReader(ABC):
    """Reads the arguments of one call."""

    @abstractmethod
    def push(self, text: str) -> Taken:
        """Take more of the text. Raises Mismatch if these are no arguments."""


class ArgumentStyle(ABC):
    """A way to write arguments."""

    @abstractmethod
    def reader(self, schema: Schema) -> ArgumentReader:
        """Reads those of one call."""

    @abstractmethod
    def grammar(self, schema: Schema, rule: str, *, is_strict: bool) -> list[str]:
        """The rule of that name, and those that it needs, in Lark's notation.

        Raises RequestError for arguments that cannot be written so.
        """


class AsJson(ArgumentStyle):
    """`{"city": "서울"}`, as most families do."""

    def reader(self, schema: Schema) -> ArgumentReader:
        return JsonObject()

    def grammar(self, schema: Schema, rule: str, *, is_strict: bool) -> list[str]:
        return [f"{rule}: {of_schema({'type': 'object', **schema}, is_strict=is_strict)}"]


class JsonObject(ArgumentReader):
    """Finds the end of a JSON object.

    >>> JsonObject().push('{"a": "}"} '), JsonObject().push('{"a": ')
    (Taken(piece='{"a": "}"}', end=10), Taken(piece='{"a": ', end=None))
    """

    def __init__(self) -> None:
        self._depth, self._in_string, self._is_escaped = 0, False, False

    def push(self, text: str) -> Taken:
        start = 0
        if not self._depth:
            start = len(text) - len(text.lstrip())
            if text[start:] and text[start] != "{":
                raise Mismatch
        for at in range(start, len(text)):
            character = text[at]
            if self._in_string:
                if self._is_escaped:
                    self._is_escaped = False
                else:
                    self._is_escaped, self._in_string = character == "\\", character != '"'
            elif character == '"':
                self._in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return Taken(text[start : at + 1], at + 1)
        return Taken(text[start:])


class AsTags(ArgumentStyle):
    """`<parameter=city>`, a line end, the value, a line end, `</parameter>` for each; then `</function>`.

    They are written in the order of the schema. A text stands there as it is, so its pattern or length does not bind,
    and neither does what the schema says of the object as a whole, but for `required`. A value ends with the first
    line that begins with its closing tag.
    """

    def reader(self, schema: Schema) -> ArgumentReader:
        return TaggedObject(schema)

    def grammar(self, schema: Schema, rule: str, *, is_strict: bool) -> list[str]:
        required = schema.get("required", ())
        definitions = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
        parts, rules = [], []
        for place, (name, value) in enumerate(_properties(schema).items()):
            each = f"{rule}_{place}"
            parts.append(each if name in required else f"{each}?")
            if ">" in name or "\n" in name:
                raise RequestError(
                    f"the argument {name!r:.80} cannot be written in this model's format, where a name ends at '>' "
                    "and has no line ends. Call it otherwise."
                )
            opening, closing = in_lark(f"<parameter={name}>"), in_lark(_CLOSING)
            if not _is_text(value):
                content = of_schema({**value, **definitions}, is_strict=is_strict)
                rules.append(f'{each}: {opening} "\\n" {content} {closing} "\\n"')
            elif "enum" in value:
                choices = [
                    in_lark(f"\n{choice}") for choice in value["enum"] if _CLOSING not in f"\n{choice}"
                ]
                if not choices:
                    raise RequestError(
                        f"none of the values of the argument {name!r:.80} can be written in this model's format, whose "
                        "closing tag they hold. Give others."
                    )
                rules.append(f'{each}: {opening} ({" | ".join(choices)}) {closing} "\\n"')
            else:
                rules += [
                    f'{each}: {opening} {each}_end "\\n"',
                    f"{each}_end[lazy]: /(\\n(.|\\n)*)?/ {closing}",
                ]
        return [f"{rule}: {' '.join(parts)} {in_lark('</function>')}", *rules]


_CLOSING = "\n</parameter>"


class TaggedObject(ArgumentReader):
    r"""Makes JSON of tagged values. What the schema calls text is text; the rest is JSON, or text if it is none.

    A value that begins on a line of its own ends with the first line that begins with the closing tag; one that follows
    its opening tag in the same line, with the first closing tag.

    >>> reader = TaggedObject({"properties": {"도시": {"type": "string"}, "일": {"type": "integer"}}})
    >>> reader.push("\n<parameter=도시>\n서울\n</parameter>\n<parameter=일>\n3\n</para").piece
    '{"도시": "서울"'
    >>> reader.push("meter>\n</function>")
    Taken(piece=', "일": 3}', end=18)
    """

    _OPENING, _END = "<parameter=", "</function>"

    def __init__(self, schema: Schema) -> None:
        self._properties = _properties(schema)
        self._held = ""
        self._names: list[str] = []

    def push(self, text: str) -> Taken:
        self._held += text
        pieces = []
        while True:
            held = self._held.lstrip()
            if held.startswith(self._END):
                pieces.append("}" if self._names else "{}")
                return Taken("".join(pieces), len(text) - len(held) + len(self._END))
            if not held.startswith(self._OPENING):
                if not self._OPENING.startswith(held) and not self._END.startswith(held):
                    raise Mismatch
                return Taken("".join(pieces))
            name, is_named, value = held.removeprefix(self._OPENING).partition(">")
            has_own_line = value.startswith("\n")
            value, is_closed, rest = value.partition(
                _CLOSING if has_own_line else _CLOSING.removeprefix("\n")
            )
            if not is_named or not is_closed:
                return Taken("".join(pieces))
            if name in self._names:
                raise Mismatch
            json_name = json.dumps(name, ensure_ascii=False)
            value = value.removeprefix("\n") if has_own_line else value.removesuffix("\n")
            json_value = self._json(name, value)
            pieces.append(f"{', ' if self._names else '{'}{json_name}: {json_value}")
            self._names.append(name)
            self._held = rest

    def _json(self, name: str, value: str) -> str:
        given: Any = value
        if not _is_text(self._properties.get(name, {})):
            try:
                given = json.loads(value)
            except (ValueError, RecursionError):
                given = value
        return json.dumps(given, ensure_ascii=False)


def arguments_of(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is; None if it is none.

    >>> arguments_of(""), arguments_of("[]")
    ({}, None)
    """
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def of_schema(schema: Schema, *, is_strict: bool) -> str:
    """A value of a JSON Schema in Lark's notation; if not `is_strict`, keywords that are not known do not bind."""
    style = JSON_STYLE | {"lenient": not is_strict}
    return f"%json {json.dumps({**schema, 'x-guidance': style}, ensure_ascii=False)}"


def _properties(schema: Schema) -> Mapping[str, Any]:
    """Of each argument, the schema: `true` says nothing of it, and one that is `false` never stands there."""
    properties = schema.get("properties", {})
    return {name: {} if value is True else value for name, value in properties.items() if value is not False}


def _is_text(schema: Schema) -> bool:
    """Whether all values of a schema are strings."""
    choices = schema.get("enum")
    if choices is not None:
        return all(isinstance(choice, str) for choice in choices)
    return schema.get("type") == "string"
