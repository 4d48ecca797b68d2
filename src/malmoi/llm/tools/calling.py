"""The calls that one answer may make: the grammar that an engine's rule follows, and the reader of what comes.

    tools, tool_choice, CallFormat -> CALLING -> Lark's notation -> `grammar.py`
                                              -> CallReader -> `message.py`

Free text ends where the trigger of a call is complete; from there on, only a call of one of the tools with arguments of
its schema goes on. So nothing that a model has begun to call is malformed. Read next: `malmoi/llm/rules.py`.
"""

from dataclasses import dataclass, replace

from malmoi.llm.grammar import in_lark
from malmoi.llm.prompt import ChatPrompt
from malmoi.llm.tools.formats import CallFormat
from malmoi.llm.tools.offered import Tool
from malmoi.llm.tools.reader import CallReader

_ANYTHING = r"/(.|\n)*/"
_SPACE = r"[\s\x1c-\x1f]"  # what Python strips


@dataclass(frozen=True)
class Calling:
    r"""What an answer may call, and how.

    `is_required`: it is calls, and nothing else. `is_parallel`: it may be several.

    >>> from malmoi.llm.tools.formats import hermes
    >>> tool = Tool.of({"type": "function", "function": {"name": "f"}})
    >>> print(Calling(hermes(), (tool,), is_required=True, is_parallel=False).grammar().splitlines()[0])
    start: "<tool_call>" calls
    """

    format: CallFormat
    tools: tuple[Tool, ...]
    is_required: bool
    is_parallel: bool

    @classmethod
    def of(cls, prompt: ChatPrompt, shown: list[Tool], calls: CallFormat) -> "Calling":
        """What a prompt lets its answer call, of the tools that are shown."""
        chosen = [tool for tool in shown if tool.name == prompt.tool_choice]
        return cls(
            calls,
            tuple(chosen or shown),
            is_required=bool(chosen) or prompt.tool_choice == "required",
            is_parallel=prompt.is_parallel and not calls.is_single,
        )

    def required(self) -> "Calling":
        """The same, without text."""
        return replace(self, is_required=True)

    def grammar(self) -> str:
        """The answer in Lark's notation."""
        calls, trigger = self.format, self.format.trigger
        more = f"({_text(calls.between)} call)* " if self.is_parallel else ""
        names = range(len(self.tools))
        lines = [
            f"start: {self._start()}",
            f"calls: {_text(calls.opening.removeprefix(trigger))} call {more}{_text(calls.ending)}",
            "call: " + " | ".join(f"call_{place}" for place in names),
        ]
        for place, tool in enumerate(self.tools):
            head, rule = _text(tool.name + calls.middle), f"arguments_{place}"
            lines.append(f"call_{place}: {head} {rule} {_text(calls.closing)}")
            lines += calls.arguments.grammar(tool.schema, rule, is_strict=tool.is_strict)
        if not self.is_required:
            lines += [f"begun[lazy]: TEXT {_text(trigger)}", f"TEXT: {self._free}"]
        return "\n".join(lines)

    def reader(self, *, is_certain: bool) -> CallReader:
        """Reads the calls of one answer; `is_certain` if it follows the grammar."""
        schemas = {tool.name: tool.schema for tool in self.tools}
        return CallReader(self.format, schemas, is_certain=is_certain, is_parallel=self.is_parallel)

    def _start(self) -> str:
        trigger = _text(self.format.trigger)
        if self.is_required:
            return f"{trigger} calls"
        return f"TEXT | {trigger} calls" if self.format.only_at_start else "TEXT | begun calls"

    @property
    def _free(self) -> str:
        if not self.format.only_at_start:
            return _ANYTHING
        return rf"{_ANYTHING} & ~/{_SPACE}*{_regex(self.format.trigger)}(.|\n)*/"


def _text(text: str) -> str:
    return in_lark(text) if text else ""


def _regex(text: str) -> str:
    return "".join(character if character.isalnum() else f"\\{character}" for character in text)
