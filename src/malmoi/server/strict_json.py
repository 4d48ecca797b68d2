r"""Bodies to the letter: what JSON does not have, and what Python would read and forget, is an error that says so.

    {"seed": 1, "seed": 2}   one of the two would be ignored
    {"top_p": NaN}           no JSON, though Python reads it
    {"\ud800": 1}            half a character, which nobody can be told of

Place in the flow: the routes of every endpoint with a JSON body are of the class `StrictRoute`. Read next: `bodies.py`.
"""

import json
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from malmoi.server.errors import ServerError


class StrictRequest(Request):
    """A request whose body is read by `loads`."""

    async def json(self) -> Any:
        return loads(await self.body())


class StrictRoute(APIRoute):
    """For `APIRouter(route_class=...)`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return handled


def loads(body: bytes) -> Any:
    """The value of a body. Raises ServerError for names that are twice in an object or half a character, and for NaN.

    Raises as `json.loads` does for what is not JSON at all.

    >>> loads(b'{"seed": 1, "seed": 2}')
    Traceback (most recent call last):
        ...
    malmoi.server.errors.ServerError: 'seed' is twice in one object of the body. Give it once.
    """
    try:
        return json.loads(body.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_refuse)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except ValueError:
        raise ServerError("the body has a number of thousands of digits. Send one that a computer can use.") from None


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ServerError(f"{twice!r:.80} is twice in one object of the body. Give it once.", param=twice)
    try:
        "".join(found).encode()
    except UnicodeEncodeError as error:
        near = error.object[error.start :]
        raise ServerError(f"a name in the body holds half a character: {near!r:.80}. Repair it first.") from None
    return found


def _refuse(constant: str) -> None:
    raise ServerError(f"{constant} is no number of JSON. Send one, or leave it out.")
