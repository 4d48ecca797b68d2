"""What is asked, in the log: off, unless the owner of the server wants it (`--log-prompts`).

Nothing else writes what people say. An error of ours is logged with where it happened and its own words. Place in the
flow: a layer that `app.py` puts on inside the limits, so that nothing is logged which is refused. Read next: `app.py`.
"""

import logging
import re

from starlette.types import Message, Receive, Scope, Send

from malmoi.server.trust.layer import Layer, header

LOGGER = "malmoi.prompts"
_log = logging.getLogger(LOGGER)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What would begin a line of its own in the log, or speak to the terminal of who reads it."""


class LogPrompts(Layer):
    """Writes every body of text to the log, with its path, at the level INFO; of another one how long it is."""

    async def admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()

        async def noted() -> Message:
            message = await receive()
            part = message.get("body", b"")
            body.extend(part)
            if message["type"] == "http.request" and not message.get("more_body", False) and body:
                is_text = header(scope, b"content-type").startswith(("application/json", "text/"))
                said = body.decode("utf-8", "backslashreplace") if is_text else f"({len(body)} bytes)"
                _log.info("%s %s %s", scope["method"], _escaped(scope["path"]), _escaped(said))
                body.clear()
            return message

        await self.app(scope, noted, send)


def _escaped(text: str) -> str:
    r"""With control characters as they are written in a program.

    >>> _escaped("말\n\x1b[2J")
    '말\\n\\x1b[2J'
    """
    return _CONTROL.sub(lambda one: one[0].encode("unicode_escape").decode(), text)
