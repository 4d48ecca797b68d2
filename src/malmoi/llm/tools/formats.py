r"""How families write calls: one `CallFormat` each, as data that both a grammar and a reader are made of.

    opening name middle {arguments} closing   between name middle {arguments} closing   ...   ending

Read next: `pattern.py`, what a pattern is; `reader.py`.
"""

from dataclasses import dataclass

from malmoi.llm.tools.arguments import ArgumentStyle, AsJson, AsTags
from malmoi.llm.tools.pattern import NAME, SPACE, WORD, Pattern
from malmoi.text.chat import ChatTemplate


@dataclass(frozen=True, kw_only=True)
class CallFormat:
    """How a model writes calls.

    Attributes:
        trigger: the text with which calls begin, and nothing else does.
        opening, middle, closing, between, ending: what stands around names and arguments, as the model has learned it;
            `opening` begins with the trigger.
        head: what is read from the trigger on, up to the arguments of the first call.
        tail: what is read behind arguments.
        next_head: the same as `head` for the calls that follow; None: each begins with a trigger of its own.
        last: what is read behind the last one.
        arguments: how arguments are written.
        only_at_start: a message is calls or text.
        is_single: its template takes one call in a message.
        id_length: how long the ids of calls are in its template; 0: as long as they like.
        passed_over: a mark that a model may write besides, and that is read and dropped.
    """

    trigger: str
    opening: str
    middle: str
    closing: str
    between: str
    ending: str = ""
    head: Pattern
    tail: Pattern
    next_head: Pattern | None = None
    last: Pattern = ()
    arguments: ArgumentStyle = AsJson()
    only_at_start: bool = False
    is_single: bool = False
    id_length: int = 0
    passed_over: str = ""

    @property
    def written(self) -> tuple[str, ...]:
        """All that stands around names and arguments, its control tokens among it."""
        return self.opening, self.middle, self.closing, self.between, self.ending, self.passed_over


def _json_head(arguments: str) -> Pattern:
    is_function = ('"type"', SPACE, ":", SPACE, '"function"', SPACE, ",", SPACE)
    name = ('"name"', SPACE, ":", SPACE, '"', NAME, '"', SPACE, ",", SPACE)
    return (SPACE, "{", SPACE, is_function, *name, f'"{arguments}"', SPACE, ":", SPACE)


def hermes(line: str = "\n") -> CallFormat:
    """`line` is what the template writes between a mark and the object."""
    return CallFormat(
        trigger="<tool_call>",
        opening=f'<tool_call>{line}{{"name": "',
        middle='", "arguments": ',
        closing=f"}}{line}</tool_call>",
        between=f'\n<tool_call>{line}{{"name": "',
        head=_json_head("arguments"),
        tail=(SPACE, "}", SPACE, "</tool_call>"),
    )


QWEN_CODER = CallFormat(
    trigger="<tool_call>",
    opening="<tool_call>\n<function=",
    middle=">\n",
    closing="\n</tool_call>",
    between="\n<tool_call>\n<function=",
    head=(SPACE, "<function=", NAME, ">"),
    tail=(SPACE, "</tool_call>"),
    arguments=AsTags(),
)


def mistral_list(space: str = "") -> CallFormat:
    """`space` is what the template writes before the list."""
    return CallFormat(
        trigger="[TOOL_CALLS]",
        opening=f'[TOOL_CALLS]{space}[{{"name": "',
        middle='", "arguments": ',
        closing="}",
        between=', {"name": "',
        ending="]",
        head=(SPACE, "[", *_json_head("arguments")),
        tail=(SPACE, (",", SPACE, '"id"', SPACE, ":", SPACE, '"', WORD, '"', SPACE), "}"),
        next_head=(SPACE, ",", *_json_head("arguments")),
        last=(SPACE, "]"),
        id_length=9,
    )


MISTRAL = CallFormat(
    trigger="[TOOL_CALLS]",
    opening="[TOOL_CALLS]",
    middle="[ARGS]",
    closing="",
    between="[TOOL_CALLS]",
    head=(SPACE, NAME, ("[CALL_ID]", WORD), "[ARGS]", SPACE),
    tail=(),
    id_length=9,
    passed_over="[CALL_ID]",
)

LLAMA = CallFormat(
    trigger='{"name"',
    opening='{"name": "',
    middle='", "parameters": ',
    closing="}",
    between='; {"name": "',
    head=(SPACE, ":", SPACE, '"', NAME, '"', SPACE, ",", SPACE, '"parameters"', SPACE, ":", SPACE),
    tail=(SPACE, "}"),
    next_head=(SPACE, (";", SPACE), *_json_head("parameters")),
    only_at_start=True,
    is_single=True,
)

_BEGIN, _END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"


def deepseek(
    kind: str = "function<｜tool▁sep｜>", fence: tuple[str, str] = ("\n```json\n", "\n```")
) -> CallFormat:
    """`kind` is what the template writes before a name, `fence` what it writes around arguments."""
    middle, line = (fence[0], "\n") if fence[0] else ("<｜tool▁sep｜>", "")
    one: Pattern = (SPACE, _BEGIN, SPACE, *((kind,) if kind else ()), NAME, SPACE, middle.strip(), SPACE)
    return CallFormat(
        trigger="<｜tool▁calls▁begin｜>",
        opening=f"<｜tool▁calls▁begin｜>{_BEGIN}{kind}",
        middle=middle,
        closing=f"{fence[1]}{_END}",
        between=f"{line}{_BEGIN}{kind}",
        ending="<｜tool▁calls▁end｜>",
        head=one,
        tail=(SPACE, *((fence[1].strip(), SPACE) if fence[1] else ()), _END),
        next_head=one,
        last=(SPACE, "<｜tool▁calls▁end｜>"),
    )


def find(template: ChatTemplate) -> CallFormat | None:
    """The format in which a template writes calls; None if it shows no tools, or writes them in none that is known.

    >>> find(ChatTemplate("{{ tools }}<tool_call>{{ messages }}</tool_call>")).opening
    '<tool_call>{"name": "'
    """

    def writes(text: str) -> bool:
        return any(text in literal for literal in template.literals)

    if not template.reads("tools") or writes("<arg_key>"):
        return None
    if writes("<tool_call>") and writes("<function="):
        return QWEN_CODER
    if writes("<tool_call>"):
        return hermes("\n" if writes("<tool_call>\n") else "")
    if writes("[TOOL_CALLS]"):
        return MISTRAL if writes("[ARGS]") else mistral_list(" " if writes("[TOOL_CALLS] [") else "")
    if writes("<｜tool▁calls▁begin｜>"):
        return deepseek() if writes("```json") else deepseek("", ("", ""))
    return LLAMA if writes('{"name": "') and writes('"parameters": ') else None
