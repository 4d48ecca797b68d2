"""A checkpoint's chat template: a stranger's Jinja program, run in a sandbox.

    chat_template.jinja -> TEMPLATE.run(variables) -> text

The language is the one that `transformers` gives to chat templates (its filters, its globals, `{% generation %}`,
`{% break %}`), so the text is the same to the letter. A template can open no file, reach no Python object but plain
data, and loop only until a deadline. This file knows nothing of messages or tokens.
Read next: chat.py (what is rendered), authorship.py (who wrote which character of it).
"""

import json
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import TemplateError as JinjaError
from jinja2 import TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from malmoi.core.errors import TemplateError

MAX_SECONDS = 10.0
"""How long one run may take. An ordinary template needs about a millisecond for a hundred messages."""
MAX_CHARACTERS = 1 << 24
"""How much text one run may write, or one `*` inside it may make."""


class Template:
    """A compiled chat template.

    The limits (`MAX_SECONDS`, `MAX_CHARACTERS`) stop accidents and cheap bombs. They are not a jail: a hostile
    template can still waste memory below them.

    Attributes:
        source: the template as it was written.
        literals: all pieces of text that the template itself can write.
        searched: the constants that it may look for in its input.
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
            tree = _environment.parse(source)
            self.literals = _literals(tree)
            self.searched = _searched(tree)
            self.has_generation_tag = _GenerationTag.stands_in(tree)
            self._compiled = _environment.from_string(_Metered().visit(tree))
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
        run = _Run(now=now or datetime.now(), deadline=time.monotonic() + MAX_SECONDS, marks=marks)
        token = _run.set(run)
        try:
            pieces: list[str] = []
            size = 0
            for piece in self._compiled.generate(variables):
                pieces.append(piece)
                size += len(piece)
                _check_size(size)
            return "".join(pieces)
        except _Refusal as refusal:
            raise TemplateError(
                f'the chat template refuses this conversation: "{refusal}". Change the messages as it asks.'
            ) from refusal
        except Exception as error:  # whatever a stranger's program raises is its fault, or its input's
            raise TemplateError(
                f"the chat template failed, {type(error).__name__}: {error}. "
                "Check that the messages have the keys that it reads, or correct the template."
            ) from error
        finally:
            _run.reset(token)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What one run may ask of the world outside of the sandbox."""

    now: datetime
    deadline: float
    marks: tuple[str, str]


_run: ContextVar[_Run] = ContextVar("run")


class _Refusal(JinjaError):
    """The template called `raise_exception`."""


class _GenerationTag(Extension):
    """`{% generation %}...{% endgeneration %}`: what the assistant writes, so what training teaches."""

    tags = {"generation"}  # noqa: RUF012 (declared so by Jinja)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Macro) -> str:
        before, after = _run.get().marks
        return f"{before}{caller()}{after}"

    @classmethod
    def stands_in(cls, tree: nodes.Template) -> bool:
        return any(node.identifier == cls.identifier for node in tree.find_all(nodes.ExtensionAttribute))


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox (where `range` ends at 100,000) that also looks before it multiplies."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if not (isinstance(left, int) and isinstance(right, int)):
            _check_size(_length(left) * _length(right))
        elif operator == "*":
            _check_size(left.bit_length() + right.bit_length())
        else:
            _check_size(left.bit_length() * abs(right))
        return super().call_binop(context, operator, left, right)

    def tick(self) -> None:
        """Called in each round of a loop and each call of a macro."""
        if time.monotonic() > _run.get().deadline:
            raise SecurityError(f"it runs for more than {MAX_SECONDS:.0f} seconds")


class _Metered(NodeTransformer):
    """Adds `tick()` to the body of every loop and macro; there is no other way to run for long."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, _tick(node.lineno))
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, _tick(node.lineno))
        return node


def _tick(line: int) -> nodes.Node:
    return nodes.ExprStmt(nodes.Call(nodes.EnvironmentAttribute("tick"), [], [], None, None)).set_lineno(line)


def _length(value: Any) -> int:
    if isinstance(value, int):
        return abs(value)
    return len(value) if isinstance(value, (str, list, tuple)) else 1


def _check_size(size: int) -> None:
    if size > MAX_CHARACTERS:
        raise SecurityError(f"it makes something larger than {MAX_CHARACTERS} characters")


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


def _raise_exception(message: object) -> None:
    raise _Refusal(str(message))


def _strftime_now(format: str) -> str:
    return _run.get().now.strftime(format)


class _Namespace(Namespace):
    """Jinja's `namespace`, but for names that mean something to Python."""

    def __setitem__(self, name: str, value: Any) -> None:
        if str(name).startswith("_"):
            raise SecurityError(f"a namespace cannot hold {name!r}: names that start with _ belong to Python")
        super().__setitem__(name, value)


def _namespace(*attributes: Any, **more: Any) -> _Namespace:
    made = _Namespace()
    for name, value in dict(*attributes, **more).items():
        made[name] = value
    return made


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is: Jinja's own filter would escape `<`, `>`, `&` and `'` for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _open_sandbox() -> _Sandbox:
    sandbox = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, loopcontrols])
    sandbox.filters["tojson"] = _tojson
    sandbox.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now, namespace=_namespace)
    del sandbox.globals["lipsum"]  # random text, as much as one asks for
    return sandbox


_environment = _open_sandbox()
