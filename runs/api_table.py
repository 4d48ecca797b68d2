"""Write docs/api.md: every endpoint of the server, and of each parameter what it does or what to do instead.

    python runs/api_table.py            write the page
    python runs/api_table.py --check    exit with 1 if the page is not what it would be

All of it is what the bodies of `malmoi.server` say themselves, by which they also read and refuse requests.
"""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from fastapi import UploadFile
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from malmoi.server.app import PARTS
from malmoi.server.bodies import Body
from malmoi.server.catalogue.catalogue import Catalogue

PAGE = Path(__file__).parent.parent / "docs" / "api.md"
NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", UploadFile: "file"}
INTRODUCTION = """# The API

<!-- Written by `python runs/api_table.py`; a test keeps it up to date. -->

`malmoi serve`가 답하는 주소와 매개변수를 모두 적은 표입니다. 표에 없는 매개변수를 보내면 그 이름을 밝힌 400 오류가
돌아옵니다. 말없이 무시하는 것은 없습니다. 지원하지 않는 것에는 대신 무엇을 하면 되는지 적었습니다. 어느 모델이
답했는지는 응답 헤더 `x-malmoi-model`에, 라우터가 골랐다면 그 이유는 `x-malmoi-why`에 있습니다.

Every address that `malmoi serve` answers, and every parameter. What is not in a table is refused with a 400 that names
it, so nothing is ignored in silence. `null` counts as not given. What other servers know and this one does not is under
"refused", with what to do instead. The header `x-malmoi-model` says which model has answered, and `x-malmoi-why` why,
where a router chose it. Errors have OpenAI's form, at `/v1/messages` Anthropic's, at `/api` Ollama's.
"""


def routes() -> Iterator[APIRoute]:
    """All endpoints, in the order of the application."""
    catalogue = Catalogue({"default": None}, load=lambda path: sys.exit("a page of the API loads no model"))
    for part in PARTS:
        for route in part.routes(catalogue).routes:
            assert isinstance(route, APIRoute)
            yield route


def body_of(route: APIRoute) -> type[Body] | None:
    """What a request to it may say, where it says anything."""
    said = [parameter.annotation for parameter in inspect.signature(route.endpoint).parameters.values()]
    bodies = [kind for annotation in said for kind in classes(annotation) if issubclass(kind, Body)]
    return bodies[0] if bodies else None


def section(route: APIRoute) -> str:
    """The paragraph of an endpoint, with the table of its parameters."""
    [method] = route.methods
    told = [f"## `{method} {route.path}`", sentence(inspect.getdoc(route.endpoint) or "")]
    if body := body_of(route):
        told.append(table(body))
        if body.REFUSED:
            told.append(
                "\n".join(["Refused:", "", *(f"- `{name}`: {why}" for name, why in body.REFUSED.items())])
            )
        told += [f"{heading(name, inner)}\n\n{table(inner)}{refused(inner)}" for name, inner in objects(body)]
    return "\n\n".join(told)


def heading(name: str, inner: type[Body]) -> str:
    """What stands above the table of an object: a parameter may be one of several."""
    is_what = sentence(inspect.getdoc(inner) or "").partition(".")[0]
    return f"`{name}`: {is_what[:1].lower()}{is_what[1:]}."


def table(body: type[BaseModel]) -> str:
    """Its fields, a row each, those first that it cannot do without."""
    fields = sorted(body.model_fields.items(), key=lambda named: not named[1].is_required())
    rows = [
        f"| `{field.alias or name}` | {kind(field)} | {default(field)} | {field.description or ''} |"
        for name, field in fields
    ]
    return "\n".join(["| parameter | type | if not given | |", "| --- | --- | --- | --- |", *rows])


def refused(body: type[Body]) -> str:
    """What it knows and does not do, in a line."""
    if not body.REFUSED:
        return ""
    return "\n\nRefused: " + " ".join(f"`{name}` ({why.rstrip('.')})." for name, why in body.REFUSED.items())


def objects(body: type[BaseModel]) -> Iterator[tuple[str, type[Body]]]:
    """The parameters that are objects with parameters of their own, and those in these."""
    for name, field in body.model_fields.items():
        for inner in classes(field.annotation):
            if issubclass(inner, Body):
                yield name, inner
                yield from ((f"{name}.{more}", deeper) for more, deeper in objects(inner))


def classes(annotation: Any) -> Iterator[type]:
    """The classes that an annotation is made of."""
    if inspect.isclass(annotation) and get_origin(annotation) is None:
        yield annotation
    for argument in get_args(annotation):
        yield from classes(argument)


def kind(field: FieldInfo) -> str:
    """Its type as JSON has it."""
    return " or ".join(dict.fromkeys(named(field.annotation)))


def named(annotation: Any) -> Iterator[str]:
    """The names of the types that it may be of."""
    match get_origin(annotation), get_args(annotation):
        case origin, choices if origin is Literal:
            yield from (f'`"{one}"`' if isinstance(one, str) else f"`{str(one).lower()}`" for one in choices)
        case origin, parts if origin in (UnionType, Union):
            yield from (name for part in parts if part is not NoneType for name in named(part))
        case origin, (item,) if origin is list:
            yield f"list of {' or '.join(named(item))}"
        case origin, _ if origin is dict:
            yield "object"
        case _:
            yield NAMES.get(annotation, "object" if inspect.isclass(annotation) else "anything")


def default(field: FieldInfo) -> str:
    """What holds where it is not given."""
    if field.is_required():
        return "**required**"
    if isinstance(field.default, str | bool | int | float) and field.default != "":
        return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"
    return ""


def sentence(text: str) -> str:
    """A text of several lines, in one."""
    return " ".join(text.split())


def page() -> str:
    """The whole page."""
    return "\n\n".join([INTRODUCTION.rstrip(), *map(section, routes())]) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
