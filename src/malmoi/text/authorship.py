"""Render a conversation so that each character of the text has an author.

    messages -> AUTHORSHIP -> the text, and the same text in ink

The template runs twice: on the messages as they are, which gives the text that `transformers` gives, and on
messages written in ink (ink.py). If the second, read back, is the first, then the ink says who wrote every
character. If not, the template reads the content, so it runs again with the strings that it looks for left legible,
first those without a bracket. If that fails too, nobody can say who wrote what, and a conversation in which that
matters is refused.
Read next: chat.py, which calls this; turns.py, which finds the assistant's turns in the ink.
"""

import json
import re
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from malmoi.core.errors import TemplateError
from malmoi.text.controls import Controls, any_of
from malmoi.text.ink import Ink, Span
from malmoi.text.template import Template

_OTHERS = -1
"""The author of all that no assistant message says: other roles, tools, template variables."""

_STRUCTURE = frozenset({"role", "type", "name", "id", "tool_call_id"})
"""Keys whose values templates compare with constants and with one another, so that they have to stay legible."""


class Authorship:
    """A render of `variables["messages"]`, and who wrote each character of it.

    All strings in `variables` are what somebody says; `trusted` holds the checkpoint's own (bos_token ...). With
    `per_turn` each assistant message is an author of its own, its index. With `is_continued` the text ends where
    the last message's content does. Changes nothing that is passed in.

    Attributes:
        text: what the template makes of the messages.
        inked: the same text, as long, with what the messages say in ink; None if the way in which the template
            reads them made that impossible (then no control token's string occurs in `variables`).
        generation: what the template put between `{% generation %}` and `{% endgeneration %}`.

    Raises:
        TemplateError: the template fails, or rewrites content in which a control token's string occurs.
    """

    text: str
    inked: str | None
    generation: list[Span]

    def __init__(
        self,
        template: Template,
        controls: Controls,
        variables: Mapping[str, Any],
        *,
        trusted: Mapping[str, str],
        per_turn: bool,
        is_continued: bool,
    ) -> None:
        self.template = template
        self.controls = controls
        self._variables = dict(variables)
        self._trusted = trusted
        self._per_turn = per_turn
        self._now = datetime.now()
        self._dump = json.dumps(variables, ensure_ascii=False)
        self.ink = Ink(self._dump + template.source)
        self._cut = self.ink.fresh() if is_continued else ""
        self._marks = ("", "") if is_continued else (self.ink.fresh(), self.ink.fresh())
        self.text = self._run(variables)
        self.inked, self.generation = self._find_authors()

    def of_first_messages(self, number: int, *, add_generation_prompt: bool) -> str:
        """Return a render, in ink, of the first `number` messages only. Needs `inked`."""
        messages = self._variables_in_ink["messages"][:number]
        variables = {"messages": messages, "add_generation_prompt": add_generation_prompt}
        return self._run({**self._variables_in_ink, **variables})

    def _find_authors(self) -> tuple[str | None, list[Span]]:
        find_controls = self.controls.pattern.findall
        written_by_template: list[str] | None = None
        searched = self.template.searched
        harmless = frozenset(string for string in searched if not self.controls.parts.search(string))
        for legible in (frozenset[str](), harmless, searched):
            self._variables_in_ink = self._write(legible)
            try:
                inked, generation = _unmark(self._run(self._variables_in_ink, self._marks), self._marks)
            except TemplateError:
                continue  # the template missed something that it looks for
            if written_by_template is None and legible <= harmless:
                written_by_template = find_controls(inked)
            # What is legible must not add a control token: pieces could be joined to one.
            if self.ink.read(inked) == self.text and find_controls(inked) == written_by_template:
                return inked, generation
        held = set(find_controls(self._dump))
        if held or find_controls(self.text) != written_by_template:
            raise TemplateError(
                "the chat template rewrites the content of messages, so it cannot be proven that this stays plain "
                f"text: {' '.join(sorted(held)) or 'pieces of a control token'}. Take it out of the messages."
            )
        text, generation = _unmark(self._run(self._variables, self._marks), self._marks)
        if text != self.text:
            raise TemplateError("the chat template rewrites what is in {% generation %}. Write it out there.")
        return None, generation

    def _run(self, variables: Mapping[str, Any], marks: tuple[str, str] = ("", "")) -> str:
        if not self._cut:
            return self.template.run({**self._trusted, **variables}, now=self._now, marks=marks)
        variables = {**variables, "messages": _extend_last(variables["messages"], self._cut + " ")}
        text = self.template.run({**self._trusted, **variables}, now=self._now)
        text, cut, after = text.rpartition(self._cut)
        if not cut:
            raise TemplateError("the chat template leaves out the last message. It cannot be continued.")
        return text if after.startswith(" ") else text.rstrip()  # no space: this template trims the content

    def _write(self, legible: frozenset[str]) -> dict[str, Any]:
        """The variables, with messages in ink but for `legible`, and the rest as far as needed."""
        controls = self.controls
        others = _Pen(self.ink, _OTHERS, legible - controls.all, controls.parts)
        messages = []
        for index, message in enumerate(self._variables["messages"]):
            if message["role"] != "assistant":
                messages.append(others.write(message))
                continue
            author = index if self._per_turn else _OTHERS
            words = _Pen(self.ink, author, (legible | controls.written) - controls.special, controls.parts)
            written = words.write(message)
            if "tool_calls" in message:  # the names and values in a call are nobody's vocabulary
                calls = _Pen(self.ink, author, legible - controls.all, controls.parts)
                written["tool_calls"] = calls.write(message["tool_calls"])
            messages.append(written)
        return {**others.cover(self._variables), "messages": messages}


class _Pen:
    """Writes JSON-like values in one author's ink: strings but for what is `legible`."""

    def __init__(self, ink: Ink, author: int, legible: Collection[str], parts: re.Pattern[str]) -> None:
        self._ink = ink
        self._author = author
        self._legible = any_of(legible)
        self._parts = parts

    def write(self, value: Any) -> Any:
        """The value with each string in ink. In keys and in structure only what could be part of a control token."""
        if isinstance(value, str):
            return self._ink.write(value, self._author, legible=self._legible)
        if isinstance(value, (list, tuple)):
            return type(value)(self.write(item) for item in value)
        if isinstance(value, dict):
            return {
                self.cover(key): self.cover(item) if key in _STRUCTURE else self.write(item)
                for key, item in value.items()
            }
        return value

    def cover(self, value: Any) -> Any:
        """The value with only that in ink. Everybody's is the same, so equal values stay equal."""
        if isinstance(value, str):
            return self._ink.cover(value, _OTHERS, hidden=self._parts)
        if isinstance(value, (list, tuple)):
            return type(value)(self.cover(item) for item in value)
        if isinstance(value, dict):
            return {self.cover(key): self.cover(item) for key, item in value.items()}
        return value


def _extend_last(messages: list[dict[str, Any]], ending: str) -> list[dict[str, Any]]:
    """The messages with `ending` after the last text of the last one."""
    *before, last = messages
    content = last.get("content")
    if isinstance(content, str):
        return [*before, {**last, "content": content + ending}]
    parts = list(content or ())
    texts = [at for at, part in enumerate(parts) if isinstance(part, dict) and "text" in part]
    if not texts:
        raise TemplateError(
            "the last message has no text to continue. Give it content, or do not continue it."
        )
    parts[texts[-1]] = {**parts[texts[-1]], "text": parts[texts[-1]]["text"] + ending}
    return [*before, {**last, "content": parts}]


def _unmark(text: str, marks: tuple[str, str]) -> tuple[str, list[Span]]:
    """The text without marks, and the spans that were between them."""
    if not all(marks):
        return text, []
    spans: list[Span] = []
    pieces: list[str] = []
    size = depth = 0
    for piece in re.split(f"([{''.join(marks)}])", text):
        depth += (piece == marks[0]) - (piece == marks[1])
        if piece and piece not in marks:
            pieces.append(piece)
            spans += [(size, size + len(piece))] if depth else []
            size += len(piece)
    if depth:
        raise TemplateError("the chat template cuts off what is in {% generation %}. Write it out there.")
    return "".join(pieces), spans
