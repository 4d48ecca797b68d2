"""How likely the tokens of another machine's answer were, in either of OpenAI's forms. Read first: `told.py`."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from malmoi.llm import TokenLogprob
from malmoi.server.catalogue.upstream.events import BrokenAnswer

NO_ID = -1
"""The id of a token whose machine does not tell it."""
_BYTES = re.compile(r"(?:\\x[0-9a-f]{2})+")


def read_likelihoods(said: Any) -> list[TokenLogprob]:
    """Of a chat, whose tokens have bytes, or of a text, whose tokens are pieces of it; none where nothing is said.

    Raises BrokenAnswer for another form.

    >>> [token] = read_likelihoods({"content": [{"token": "말", "logprob": 0.0, "top_logprobs": []}]})
    >>> token.bytes.decode(), token.token == NO_ID, token.probability
    ('말', True, 1.0)
    """
    try:
        if not isinstance(said, Mapping):
            return []
        content = said["content"] if isinstance(said.get("content"), list) else _as_of_chat(said)
        return [_logprob(token, list(map(_logprob, token.get("top_logprobs") or ()))) for token in content]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        raise BrokenAnswer(f"has likelihoods in another form: {said!r}") from None


def _as_of_chat(said: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The older form of a text, lists side by side, as that of a chat."""
    tokens = said.get("tokens") or []
    tops = said.get("top_logprobs") or [None] * len(tokens)
    return [
        {
            "token": token,
            "logprob": logprob,
            "top_logprobs": [
                {"token": one, "logprob": value}
                for one, value in sorted((top or {}).items(), key=lambda item: item[1], reverse=True)
            ],
        }
        for token, logprob, top in zip(tokens, said.get("token_logprobs") or [], tops, strict=True)
    ]


def _logprob(said: Mapping[str, Any], top: Sequence[TokenLogprob] = ()) -> TokenLogprob:
    token, logprob = said["token"], float(said["logprob"])
    piece = bytes(said["bytes"]) if isinstance(said.get("bytes"), list) else _bytes(token)
    probability = said.get("probability")
    return TokenLogprob(
        token=said["id"] if type(said.get("id")) is int else NO_ID,
        bytes=piece,
        logprob=logprob,
        probability=math.exp(logprob) if probability is None else float(probability),
        top=tuple(top),
    )


def _bytes(token: str) -> bytes:
    r"""Those of a token that is written as text, or as `\xed\x95` if it is a part of a character."""
    if _BYTES.fullmatch(token.removeprefix("bytes:")):
        return bytes.fromhex(token.removeprefix("bytes:").replace("\\x", ""))
    return token.encode("utf-8", "surrogatepass")
