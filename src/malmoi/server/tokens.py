"""Text and ids: `/tokenize` and `/detokenize`. Read next: `malmoi/text/tokenizer.py`."""

from typing import Any

from fastapi import APIRouter

from malmoi.server.bodies import DetokenizeBody, TokenizeBody
from malmoi.server.catalogue import Catalogue


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoints over `catalogue`."""
    router = APIRouter(tags=["tokens"])

    @router.post("/tokenize")
    async def tokenize(body: TokenizeBody) -> dict[str, Any]:
        """The ids of a text, and what each adds to it: bytes, since a token may be a part of a character."""
        tokenizer = (await catalogue.get(body.model)).llm.tokenizer
        ids = tokenizer.encode(body.text)
        each = [tokenizer.token_bytes(token, at_start=place == 0) for place, token in enumerate(ids)]
        pieces = [
            {"id": token, "bytes": list(piece), "text": piece.decode("utf-8", "replace")}
            for token, piece in zip(ids, each, strict=True)
        ]
        return {"tokens": ids, "pieces": pieces, "count": len(ids)}

    @router.post("/detokenize")
    async def detokenize(body: DetokenizeBody) -> dict[str, str]:
        """The text of ids."""
        return {"text": (await catalogue.get(body.model)).llm.tokenizer.decode(body.tokens)}

    return router
