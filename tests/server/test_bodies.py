"""Of every body that any endpoint reads: it says what each parameter does, and passes over nothing."""

import inspect
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from fastapi.routing import APIRoute
from pydantic import ValidationError

from malmoi.server.app import PARTS
from malmoi.server.bodies import Body, RefusedParameter
from malmoi.server.catalogue.catalogue import Catalogue


def classes(annotation: Any) -> Iterator[type]:
    if inspect.isclass(annotation):
        yield annotation
    for argument in get_args(annotation):
        yield from classes(argument)


def bodies() -> list[type[Body]]:
    catalogue = Catalogue({"default": None}, load=lambda path: pytest.fail("nothing is loaded"))
    found: dict[str, type[Body]] = {}

    def add(annotation: Any) -> None:
        for kind in classes(annotation):
            if issubclass(kind, Body) and kind.__name__ not in found:
                found[kind.__name__] = kind
                for field in kind.model_fields.values():
                    add(field.annotation)

    for part in PARTS:
        for route in part.routes(catalogue).routes:
            assert isinstance(route, APIRoute)
            for parameter in inspect.signature(route.endpoint).parameters.values():
                add(parameter.annotation)
    return list(found.values())


BODIES = pytest.mark.parametrize("body", bodies(), ids=lambda body: body.__name__)


@BODIES
def test_every_parameter_says_what_it_does(body: type[Body]) -> None:
    for name, field in body.model_fields.items():
        assert field.description, name


@BODIES
def test_what_a_body_does_not_know_is_an_error(body: type[Body]) -> None:
    with pytest.raises(ValidationError) as caught:
        body.model_validate({"no_such_thing": 1})
    problems = {problem["type"]: problem["loc"] for problem in caught.value.errors()}
    assert problems["extra_forbidden"] == ("no_such_thing",)


@BODIES
def test_what_it_refuses_it_names_and_says_what_to_do(body: type[Body]) -> None:
    for name, reason in body.REFUSED.items():
        assert name not in body.model_fields
        assert reason.endswith(".")
        with pytest.raises(ValidationError, match="is not supported") as caught:
            body.model_validate({name: "something"})
        error = caught.value.errors()[0]["ctx"]["error"]
        assert isinstance(error, RefusedParameter)
        assert error.param == name
