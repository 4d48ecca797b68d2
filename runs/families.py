"""Write docs/families.md: each family as what changed in the one that it grew from.

    python runs/families.py            write the page
    python runs/families.py --check    exit with 1 if the page is not what it would be

Ideas and parents are what the pages of `malmoi.models` say; the differences are of their code.
"""

import ast
import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from malmoi.models import registry
from malmoi.models.base import Family
from malmoi.models.registry import family_names, find_family

PAGE = Path(__file__).parent.parent / "docs" / "families.md"
PAGES = Path(registry.__file__).parent
LIKENESS = 0.35  # of two assemblies, from 0 to 1: below, a difference is harder to read than the thing itself
PAGE_NAMES = re.compile(rf"\b({'|'.join(sorted(file.stem for file in PAGES.glob('*.py')))})\.")
INTRODUCTION = """# The families

<!-- Written by `python runs/families.py`; a test keeps it up to date. -->

모든 모델은 앞선 모델에서 몇 가지 생각이 바뀌어 나왔습니다. 이 글은 말모이에 있는 모델 계열마다
새로 들어온 생각을 한 줄씩 적고, 조립 코드(`build`)가 부모 계열과 어디서 달라지는지 보여 줍니다.
위에서부터 차례로 읽으면 순환 신경망에서 딥시크까지 이어지는 길이 보입니다.

Every family is one page of code in `src/malmoi/models/`. Below, each has the ideas that it brought, and its assembly as
a difference from the family that it grew from: a line with `-` is the parent's, one with `+` its own. Docstrings,
signatures and the names of modules are left out. `malmoi inspect NAME` draws a model and counts what it costs.
"""


def page_of(family: Family[Any]) -> ModuleType:
    """The module whose page describes the family."""
    return importlib.import_module(family.config_class.__module__)


def assembly(family: Family[Any]) -> list[str]:
    """The body of the family's `build` without docstring and comments, a line each."""
    return body_of(family.build)


def body_of(function_: Callable[..., Any]) -> list[str]:
    """The statements of a function without its docstring."""
    [function] = ast.parse(inspect.getsource(function_)).body
    assert isinstance(function, ast.FunctionDef)
    body = function.body[1:] if ast.get_docstring(function) else function.body
    source = PAGE_NAMES.sub("", "\n".join(ast.unparse(statement) for statement in body))
    return [line for statement in source.splitlines() for line in broken(statement)]


def own_parts(family: Family[Any]) -> list[str]:
    """The functions of its page, or of a file named after it (`llama_shape`), that `build` calls, as code."""
    page = page_of(family)
    if family.build.__module__ != page.__name__:
        return []
    called = dict.fromkeys(re.findall(r"\b(\w+)\(", "\n".join(assembly(family))))
    parts = []
    for name in called:
        function = getattr(page, name, None)
        if inspect.isfunction(function) and f"{function.__module__}_".startswith(f"{page.__name__}_"):
            lines = "\n".join(f"    {line}" for line in body_of(function))
            parts.append(f"def {name}({', '.join(inspect.signature(function).parameters)}):\n{lines}")
    return parts


def broken(line: str, width: int = 88) -> list[str]:
    """A long line cut at the commas of its outermost brackets, so that a difference is no longer than it is."""
    indent = re.match(" *", line)[0]
    if len(line) <= width:
        return [line]
    depth, cuts, opened = 0, [], None
    for place, letter in enumerate(line):
        if letter in "([{":
            opened = place if opened is None else opened
            depth += 1
        elif letter in ")]}":
            depth -= 1
            if depth == 0 and cuts:
                cuts.append(place)
                break
        elif letter == "," and depth == 1:
            cuts.append(place + 1)
    if opened is None or len(cuts) < 2:
        return [line]
    parts = [line[a:b].strip() for a, b in zip([opened + 1, *cuts], cuts, strict=False)]
    inner = [piece for part in parts if part for piece in broken(f"{indent}    {part}", width)]
    return [line[: opened + 1], *inner, *broken(indent + line[cuts[-1] :], width)]


def in_order() -> list[Family[Any]]:
    """Parents before their children, children of one parent by name."""
    families = [find_family(name) for name in family_names()]
    ordered: list[Family[Any]] = []

    def visit(parent: str | None) -> None:
        for family in families:
            if family.grew_from == parent:
                ordered.append(family)
                visit(family.model_type)

    visit(None)
    lost = {family.model_type for family in families} - {family.model_type for family in ordered}
    assert not lost, f"{lost} grew from a family that is not here"
    return ordered


def tree(families: list[Family[Any]]) -> str:
    """Who grew from whom."""
    depths: dict[str | None, int] = {None: -1}
    lines = []
    for family in families:
        depths[family.model_type] = depths[family.grew_from] + 1
        lines.append("    " * depths[family.model_type] + family.model_type)
    return "\n".join(lines)


def section(family: Family[Any]) -> str:
    """One family: its page, its ideas, its assembly beside its parent's."""
    page = page_of(family)
    name = page.__name__.rpartition(".")[2]
    summary, _, _ = (page.__doc__ or "").partition("\n\n")
    parts = [
        f"## {family.model_type}",
        f"[`models/{name}.py`](../src/malmoi/models/{name}.py): {' '.join(summary.split())}",
        "\n".join(f"- {idea}" for idea in family.ideas),
    ]
    if family.grew_from is None:
        parts.append("```python\n" + "\n".join(assembly(family)) + "\n```")
        return "\n\n".join(parts)
    parent = find_family(family.grew_from)
    if family.build is parent.build:
        parts.append(f"Built as `{parent.model_type}`.")
        return "\n\n".join(parts)
    before, after = assembly(parent), assembly(family)
    changes = [line for line in difflib.ndiff(before, after) if not line.startswith("?")]
    if difflib.SequenceMatcher(None, before, after).ratio() > LIKENESS:
        parts.append(f"From `{parent.model_type}`:\n\n```diff\n" + "\n".join(changes) + "\n```")
    else:
        parts.append(
            f"Assembled anew, after `{parent.model_type}`:\n\n```python\n" + "\n".join(after) + "\n```"
        )
    if own := own_parts(family):
        parts.append("Its own parts:\n\n```python\n" + "\n\n".join(own) + "\n```")
    return "\n\n".join(parts)


def families_page() -> str:
    """The whole page."""
    families = in_order()
    return "\n".join([INTRODUCTION, f"```\n{tree(families)}\n```\n", "\n\n".join(map(section, families)), ""])


if __name__ == "__main__":
    text = families_page()
    if "--check" in sys.argv:
        sys.exit(PAGE.read_text("utf-8") != text)
    PAGE.write_text(text, "utf-8")
