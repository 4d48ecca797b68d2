"""The language of chat templates, in a sandbox: Jinja as `transformers` sets it up, with limits.

A template is a program by whoever published the checkpoint. Here it can open no file (there is no loader), reach no
Python object but the plain data that it is given, and loop only until a deadline. The limits stop accidents and
cheap bombs; they are not a jail, and a hostile template can still waste memory below them. Read next: template.py.
"""

import json
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jinja2 import TemplateError as JinjaError
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_SECONDS = 10.0
"""How long one run may take. An ordinary template needs about a millisecond for a hundred messages."""
MAX_CHARACTERS = 1 << 24
"""How much text one run may write, or one `*` inside it may make."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a template may know of the world outside while it runs.

    `marks` are written around what stands in `{% generation %}`; `now` is the time that `strftime_now` tells.
    """

    now: datetime
    marks: tuple[str, str]
    deadline: float = field(default_factory=lambda: time.monotonic() + MAX_SECONDS)


current_run: ContextVar[Run] = ContextVar("run")


class Refusal(JinjaError):
    """The template called `raise_exception`; the text is what it said."""


def check_size(size: int) -> None:
    """Stop the run if it has made, or is about to make, something of more than `MAX_CHARACTERS`.

    Raises:
        SecurityError: it has.
    """
    if size > MAX_CHARACTERS:
        raise SecurityError(f"it makes something larger than {MAX_CHARACTERS} characters")


def add_ticks(tree: nodes.Template) -> nodes.Template:
    """Make each loop and macro in `tree` look at the clock in every round; there is no other way to run for long."""
    repeated: list[nodes.For | nodes.Macro] = [*tree.find_all(nodes.For), *tree.find_all(nodes.Macro)]
    for node in repeated:
        tick = nodes.Call(nodes.EnvironmentAttribute("tick"), [], [], None, None)
        node.body.insert(0, nodes.ExprStmt(tick).set_lineno(node.lineno))
    return tree


class GenerationTag(Extension):
    """`{% generation %}...{% endgeneration %}`: what the assistant writes, so what training teaches."""

    tags = {"generation"}  # noqa: RUF012 (declared so by Jinja)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Macro) -> str:
        before, after = current_run.get().marks
        return f"{before}{caller()}{after}"

    @classmethod
    def stands_in(cls, tree: nodes.Template) -> bool:
        """Return whether the tag is anywhere in `tree`."""
        return any(node.identifier == cls.identifier for node in tree.find_all(nodes.ExtensionAttribute))


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox (where `range` ends at 100,000) that also looks before it multiplies."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if not (isinstance(left, int) and isinstance(right, int)):
            check_size(_length(left) * _length(right))
        elif operator == "*":
            check_size(left.bit_length() + right.bit_length())
        else:
            check_size(left.bit_length() * abs(right))
        return super().call_binop(context, operator, left, right)

    def tick(self) -> None:
        """Stop the run after its deadline; `add_ticks` puts a call of this into every loop."""
        if time.monotonic() > current_run.get().deadline:
            raise SecurityError(f"it runs for more than {MAX_SECONDS:.0f} seconds")


def _length(value: Any) -> int:
    if isinstance(value, int):
        return abs(value)
    return len(value) if isinstance(value, (str, list, tuple)) else 1


def _raise_exception(message: object) -> None:
    raise Refusal(str(message))


def _strftime_now(format: str) -> str:
    return current_run.get().now.strftime(format)


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


def open_sandbox() -> Sandbox:
    """Return a sandbox with the settings, filters and globals that `transformers` gives to chat templates."""
    sandbox = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols])
    sandbox.filters["tojson"] = _tojson
    sandbox.globals.update(raise_exception=_raise_exception, strftime_now=_strftime_now, namespace=_namespace)
    del sandbox.globals["lipsum"]  # random text, as much as one asks for
    return sandbox
