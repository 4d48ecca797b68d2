"""A checkpoint's chat template: compile it, run it, and know what it writes and looks for.

    chat_template.jinja -> TEMPLATE.run(variables) -> text

The text is that of `transformers` to the letter. This file knows nothing of messages or tokens.
Read next: chat.py (what is rendered), authorship.py (who wrote which character); before: sandbox.py.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jinja2 import TemplateSyntaxError, meta, nodes

from malmoi.core.errors import TemplateError
from malmoi.text.sandbox import GenerationTag, Refusal, Run, add_ticks, check_size, current_run, open_sandbox

_sandbox = open_sandbox()


class Template:
    """A compiled chat template.

    Attributes:
        source: the template as it was written.
        literals: all pieces of text that the template itself can write.
        searched: the constants that it may look for in its input.
        variables: the names of what it reads.
        has_generation_tag: whether it marks what the assistant writes with `{% generation %}`.

    Raises:
        TemplateError: `source` is not valid Jinja; `where` names it in the message.

    >>> Template("{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}").run(
    ...     {"messages": [{"role": "user", "content": "안녕"}]}
    ... )
    '[user] 안녕'
    """

    def __init__(self, source: str, *, where: str = "the chat template") -> None:
        self.source = source
        try:
            tree = _sandbox.parse(source)
            self.literals = _literals(tree)
            self.searched = _searched(tree)
            self.variables = frozenset(meta.find_undeclared_variables(tree))
            self.has_generation_tag = GenerationTag.stands_in(tree)
            self._compiled = _sandbox.from_string(add_ticks(tree))
        except TemplateSyntaxError as error:
            raise TemplateError(
                f"{where} is not valid Jinja, line {error.lineno}: {error.message}. "
                "Correct the template, or take the checkpoint's original one."
            ) from error

    def run(
        self, variables: Mapping[str, Any], *, now: datetime | None = None, marks: tuple[str, str] = ("", "")
    ) -> str:
        """Return the text that the template makes of `variables`, which must be plain JSON-like data.

        `marks` are written around what stands in `{% generation %}`; `now` is the time that `strftime_now` tells.

        Raises:
            TemplateError: whatever went wrong inside. The template refuses its input (`raise_exception`), reads
                what is not there, runs too long or writes too much.
        """
        token = current_run.set(Run(now=now or datetime.now(), marks=marks))
        try:
            pieces: list[str] = []
            size = 0
            for piece in self._compiled.generate(variables):
                pieces.append(piece)
                size += len(piece)
                check_size(size)
            return "".join(pieces)
        except Refusal as refusal:
            raise TemplateError(
                f'the chat template refuses this conversation: "{refusal}". Change the messages as it asks.'
            ) from refusal
        except Exception as error:  # whatever a stranger's program raises is its fault, or its input's
            raise TemplateError(
                f"the chat template failed, {type(error).__name__}: {error}. "
                "Check that the messages have the keys that it reads, or correct the template."
            ) from error
        finally:
            current_run.reset(token)


def _literals(tree: nodes.Template) -> tuple[str, ...]:
    constants = (node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str))
    return (*(node.data for node in tree.find_all(nodes.TemplateData)), *constants)


def _searched(tree: nodes.Template) -> frozenset[str]:
    """Constants in comparisons, and in the arguments of calls, filters and tests."""
    operands: list[nodes.Node] = []
    for compare in tree.find_all(nodes.Compare):
        operands += [compare.expr, *(operand.expr for operand in compare.ops)]
    for kind in (nodes.Call, nodes.Filter, nodes.Test):
        operands += [argument for node in tree.find_all(kind) for argument in getattr(node, "args", ())]
    for several in [node for node in operands if isinstance(node, (nodes.List, nodes.Tuple))]:
        operands += several.items
    return frozenset(
        node.value for node in operands if isinstance(node, nodes.Const) and isinstance(node.value, str)
    )
