"""What went wrong, in the form that OpenAI's clients read: `{"error": {"message", "type", "param", "code"}}`.

Place in the flow: `app.py` registers `as_response` for every kind of error. A stranger learns what was wrong with a
request, never where a file lies or how the code got there. Read next: `bodies.py`.
"""

import logging
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from malmoi.core.errors import MalmoiError, MediaError, RequestError, TemplateError, TokenizerError

_OF_THE_REQUEST = (RequestError, TemplateError, MediaError, TokenizerError)
_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_log = logging.getLogger("malmoi.server")


class ServerError(MalmoiError):
    """A request that the server answers with `status`; `param` is the part of it that is wrong.

    >>> error = ServerError("no model is called 'x'. Use 'default'.", status=404, param="model")
    >>> error.status, error.param
    (404, 'model')
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.retry_after = status, param, code, retry_after


def described(error: BaseException) -> tuple[int, dict[str, Any]]:
    """The status and the body of an answer about an error.

    >>> described(RequestError("top_p=2 is out of range. Give a number from 0 to 1."))[1]["error"]["param"]
    'top_p'
    """
    match error:
        case ServerError():
            return error.status, _body(str(error), error.status, error.param, error.code)
        case RequestValidationError():
            message, param = _first_problem(error)
            return 400, _body(message, 400, param)
        case HTTPException():
            return error.status_code, _body(str(error.detail), error.status_code)
        case _ if isinstance(error, _OF_THE_REQUEST):
            name, is_named, _ = str(error).partition("=")
            return 400, _body(str(error), 400, name if is_named and name.isidentifier() else None)
        case MalmoiError():
            return 500, _body(str(error), 500)
    _log.error("an error that is ours", exc_info=error)
    return 500, _body("something is wrong in the server, and in its log. Try again.", 500)


async def as_response(_request: Request, error: Exception) -> JSONResponse:
    """`described`, over HTTP."""
    status, body = described(error)
    retry_after = getattr(error, "retry_after", None)
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(body, status_code=status, headers=headers)


def _body(
    message: str, status: int, param: str | None = None, code: str | None = None
) -> dict[str, dict[str, str | None]]:
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _first_problem(error: RequestValidationError) -> tuple[str, str | None]:
    """What is wrong with a body, in a sentence, and where."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    match first["type"]:
        case "json_invalid":
            return f"the body is not JSON: {first['ctx']['error']}. Send one object.", None
        case "extra_forbidden":
            return (
                f"{where!r} is no parameter of this endpoint. Leave it out; /docs has those there are.",
                where,
            )
        case "missing" if where:
            return f"{where!r} is missing. Give it.", where
        case "missing":
            return "the body is missing. Send a JSON object.", None
        case "value_error":
            return str(first["ctx"]["error"]), getattr(first["ctx"]["error"], "param", None) or where or None
    return f"{where}: {first['msg']}.", where or None
