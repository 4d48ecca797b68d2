"""Endpoints whose clients read errors in another form than OpenAI's. Read next: `anthropic.py`, `ollama.py`."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute

ErrorForm = Callable[[BaseException], tuple[int, dict[str, Any]]]
"""From an error to its status and what is said of it, as `errors.described`."""


def errors_as(form: ErrorForm) -> type[APIRoute]:
    """For `APIRouter(route_class=...)`: whatever goes wrong in an endpoint, its body included, is answered in `form`.

    What the layers of `trust.py` refuse does not get so far, and is in OpenAI's form.
    """

    class Route(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handled(request: Request) -> Response:
                try:
                    return await handle(request)
                except Exception as error:  # noqa: BLE001  # it is logged and told, as `app.py` does with others
                    status, body = form(error)
                    return JSONResponse(body, status_code=status)

            return handled

    return Route
