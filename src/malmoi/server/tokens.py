"""Text and ids: `/tokenize` and `/detokenize`. Read next: `malmoi/text/tokenizer.py`."""

import asyncio
from typing import Any

from fastapi import APIRouter

from malmoi.server.bodies import DetokenizeBody, TokenizeBody
from malmoi.server.catalogue.catalogue import Catalogue
from malmoi.server.strict_json import StrictRoute
from malmoi.text.tokenizer import Tokenizer


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoints over `catalogue`."""
    router = APIRouter(tags=["tokens"], route_class=StrictRoute)

    @router.post("/tokenize")
    async def tokenize(body: TokenizeBody) -> dict[str, Any]:
        """The ids of a text, and what each adds to it: bytes, since a token may be a part of a character."""
        tokenizer = (await catalogue.model(body.model)).tokenizer
        return await asyncio.to_thread(_cut, tokenizer, body.text)  # a long text takes seconds

    @router.post("/detokenize")
    async def detokenize(body: DetokenizeBody) -> dict[str, str]:
        """The text of ids."""
        tokenizer = (await catalogue.model(body.model)).tokenizer
        return {"text": await asyncio.to_thread(tokenizer.decode, body.tokens)}

    return router


def _cut(tokenizer: Tokenizer, text: str) -> dict[str, Any]:
    ids = tokenizer.encode(text)
    each = [tokenizer.token_bytes(token, at_start=place == 0) for place, token in enumerate(ids)]
    pieces = [
        {"id": token, "bytes": list(piece), "text": piece.decode("utf-8", "replace")}
        for token, piece in zip(ids, each, strict=True)
    ]
    return {"tokens": ids, "pieces": pieces, "count": len(ids)}
