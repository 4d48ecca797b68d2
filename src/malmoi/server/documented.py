"""What /openapi.json says of answers, beside what FastAPI finds out: their errors, and that they may be streams.

FastAPI announces a 422 of its own form for a body that is wrong. Here that is a 400, and an error has the form of its
path, so that a few descriptions of errors do for all paths. Place in the flow: `app.py` makes such an application. Read
next: `dialect.py`.
"""

from typing import Any

from fastapi import FastAPI

from malmoi.server.dialect import ErrorForm, anthropic_error, form_of, ollama_error
from malmoi.server.errors import described
from malmoi.server.wire import DataEvents, Lines

_TEXT = {"type": "string"}
_TEXT_OR_NULL = {"type": ["string", "null"]}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


_ERRORS: dict[ErrorForm, tuple[str, dict[str, Any]]] = {
    described: (
        "Error",
        _object(error=_object(message=_TEXT, type=_TEXT, param=_TEXT_OR_NULL, code=_TEXT_OR_NULL)),
    ),
    anthropic_error: (
        "AnthropicError",
        _object(type={"const": "error"}, error=_object(type=_TEXT, message=_TEXT)),
    ),
    ollama_error: ("OllamaError", _object(error=_TEXT)),
}
"""The forms of `dialect.py`: their names, and how they look."""


class DocumentedApp(FastAPI):
    """An application whose description has all of its answers.

    >>> DocumentedApp().openapi()["components"]["responses"]["OllamaError"]["description"]
    'What is wrong, and what to do.'
    """

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            _document(super().openapi())
        return super().openapi()


def _document(schema: dict[str, Any]) -> None:
    """Say what else there is to say (mutates the schema)."""
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    components["responses"] = {
        name: {"description": "What is wrong, and what to do.", "content": {"application/json": {"schema": form}}}
        for name, form in _ERRORS.values()
    }
    for path, operations in schema["paths"].items():
        name, _ = _ERRORS[form_of(path)]
        for operation in operations.values():
            answers = operation["responses"]
            answers.pop("422", None)
            answers["4XX"] = answers["5XX"] = {"$ref": f"#/components/responses/{name}"}
            if "stream" in _parameters(operation, schemas):
                wire = Lines if form_of(path) is ollama_error else DataEvents
                answers["200"]["content"][wire.media_type] = {"schema": _TEXT}


def _parameters(operation: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    """Those of its JSON body."""
    content = operation.get("requestBody", {}).get("content", {})
    reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    return dict(schemas.get(reference.rpartition("/")[2], {}).get("properties", {}))
