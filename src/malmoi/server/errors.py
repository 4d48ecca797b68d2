"""What went wrong, in the form that OpenAI's clients read: `{"error": {"message", "type", "param", "code"}}`.

Place in the flow: what is raised is `described` here, and answered by `dialect.py`. A stranger learns what was wrong
with a request, never where a file lies or how the code got there. Read next: `dialect.py`.
"""

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from malmoi.core.errors import MalmoiError, MediaError, RequestError, TemplateError, TokenizerError

_OF_THE_REQUEST = (RequestError, TemplateError, MediaError, TokenizerError)
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}
_log = logging.getLogger("malmoi.server")


class ServerError(MalmoiError):
    """A request that the server answers with `status` and `headers`; `param` is the part of it that is wrong.

    `retry_after`: after so many seconds it may do.

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
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code
        self.headers = {**headers} if retry_after is None else {**headers, "Retry-After": str(retry_after)}


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
        # FastAPI's word for a body that it could not read: what went wrong is behind it.
        case HTTPException(__cause__=ServerError() as cause):
            return described(cause)
        case HTTPException(__cause__=UnicodeDecodeError()):
            return 400, _body("the body is not UTF-8. Encode it so.", 400)
        case HTTPException(__cause__=RecursionError()) | RecursionError():
            return 400, _body("the body is nested too deeply. Send a flatter one.", 400)
        case HTTPException():
            return error.status_code, _body(str(error.detail), error.status_code)
        case _ if isinstance(error, _OF_THE_REQUEST):
            name, is_named, _ = str(error).partition("=")
            return 400, _body(str(error), 400, name if is_named and name.isidentifier() else None)
    _log.error("an error that is ours", exc_info=error)
    return 500, _body("something is wrong in the server, and in its log. Try again.", 500)


def _body(
    message: str, status: int, param: str | None = None, code: str | None = None
) -> dict[str, dict[str, str | None]]:
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    said = {"message": _writable(message), "type": kind, "param": param and _writable(param), "code": code}
    return {"error": said}


def _writable(text: str) -> str:
    """What a request says may be half a character, which no answer can be written with."""
    return text.encode("utf-8", "backslashreplace").decode()


def _first_problem(error: RequestValidationError) -> tuple[str, str | None]:
    """What is wrong with a body, in a sentence, and where."""
    problems = error.errors()
    first = problems[0]
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
    if not where:
        return "the body is not a JSON object. Send one, with Content-Type: application/json.", None
    # A field that may be of several types has a problem with each.
    name = str(first["loc"][1])
    told = dict.fromkeys(problem["msg"] for problem in problems if problem["loc"][:2] == first["loc"][:2])
    return f"{name}: {', or '.join(told)}.", name
