"""Errors in the form that whoever asks reads: Anthropic's, Ollama's, else OpenAI's. The path tells.

    FORMS          path -> form, for everything that the server answers
    as_response    an error over HTTP, wherever it was raised: in an endpoint, in a layer, on a path that is not there

Place in the flow: `app.py` registers `as_response`, and every layer answers with it. Read next: `errors.py`, what an
error says; `trust/layer.py`.
"""

from collections.abc import Callable
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from malmoi.server.errors import ServerError, described

ErrorForm = Callable[[BaseException], tuple[int, dict[str, Any]]]
"""From an error to its status and what is said of it, as `errors.described`."""


def anthropic_error(error: BaseException) -> tuple[int, dict[str, Any]]:
    """The status of an error, and the error in Anthropic's form.

    >>> anthropic_error(ServerError("no model is called 'x'.", status=404))
    (404, {'type': 'error', 'error': {'type': 'not_found_error', 'message': "no model is called 'x'."}})
    """
    status, body = described(error)
    kind = "api_error" if status >= 500 else body["error"]["type"]
    return status, {"type": "error", "error": {"type": kind, "message": body["error"]["message"]}}


def ollama_error(error: BaseException) -> tuple[int, dict[str, Any]]:
    """The status of an error, and the error in Ollama's form.

    >>> ollama_error(ServerError("no model is called 'x'.", status=404))
    (404, {'error': "no model is called 'x'."})
    """
    status, body = described(error)
    return status, {"error": body["error"]["message"]}


FORMS: tuple[tuple[str, ErrorForm], ...] = (("/v1/messages", anthropic_error), ("/api", ollama_error))
"""Which form the errors of a path and of those below it have; others have OpenAI's."""


def form_of(path: str) -> ErrorForm:
    """The form of the errors of a path.

    >>> form_of("/v1/messages/count_tokens").__name__, form_of("/api/chat").__name__, form_of("/apis").__name__
    ('anthropic_error', 'ollama_error', 'described')
    """
    return next((form for root, form in FORMS if f"{path}/".startswith(f"{root}/")), described)


async def as_response(request: Request, error: Exception) -> JSONResponse:
    """The error in the form of the path, with the headers that belong to its status."""
    status, body = form_of(request.scope["path"])(error)
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    # What a layer raises while a body is read comes as the cause of FastAPI's own error.
    for told in (error, error.__cause__):
        headers |= told.headers if isinstance(told, ServerError) else {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status_code=status, headers=headers)
