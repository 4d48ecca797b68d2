"""What is asked, in the log: off, unless the owner of the server wants it (`--log-prompts`).

Nothing else writes what people say. An error of ours is logged with where it happened and its own words. Place in the
flow: a layer that `app.py` puts on inside the limits, so that nothing is logged which is refused. Read next: `app.py`.
"""

import logging

from starlette.types import Message, Receive, Scope, Send

from malmoi.server.trust.layer import Layer, header

LOGGER = "malmoi.prompts"
_log = logging.getLogger(LOGGER)


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
                _log.info("%s %s %s", scope["method"], scope["path"], said)
                body.clear()
            return message

        await self.app(scope, noted, send)
