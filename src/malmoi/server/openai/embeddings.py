"""`/v1/embeddings`: texts go in, or their ids, and a vector of each comes out. Read next: `llm/text_encoder.py`."""

import base64
from collections.abc import Sequence
from typing import Any, Literal

import torch
from fastapi import APIRouter
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from malmoi.server.bodies import Body, Texts
from malmoi.server.catalogue.catalogue import Catalogue
from malmoi.server.catalogue.upstream import Upstream
from malmoi.server.each import all_of, each_of
from malmoi.server.errors import ServerError
from malmoi.server.strict_json import StrictRoute


class EmbeddingsBody(Body):
    """The body of /v1/embeddings."""

    model: str = Field("", description="A name of /v1/models that reads text; not given: the first.")
    input: Texts = Field(
        description="A text, its ids with the special tokens of the model, or a list of either."
    )
    encoding_format: Literal["float", "base64"] = Field(
        "float", description="base64: the numbers in 32 bits, the lowest byte first; a third of the length."
    )
    dimensions: int | None = Field(
        None, description="Only so many of the first numbers, to the length 1: for models trained for it."
    )
    user: str = Field("", description="Who asks; for your own records, it changes nothing.")


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoint over `catalogue`."""
    router = APIRouter(tags=["embeddings"], route_class=StrictRoute)

    @router.post("/v1/embeddings")
    async def embed(body: EmbeddingsBody) -> dict[str, Any]:
        """A vector of each text."""
        vectors, num_tokens = await vectors_of(catalogue, body.model, body.input, dimensions=body.dimensions)
        written = _in_base64 if body.encoding_format == "base64" else Tensor.tolist
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": written(vector)}
                for index, vector in enumerate(vectors)
            ],
            "model": catalogue.name(body.model),
            "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
        }

    return router


async def vectors_of(
    catalogue: Catalogue, model: str, texts: Texts, *, dimensions: int | None
) -> tuple[Sequence[Float[Tensor, " D"]], int]:
    """The vectors of the texts, cut to `dimensions`, and how many tokens were read.

    Raises ServerError for no text, or more dimensions than there are, RequestError as `TextEncoder.embed` does.
    """
    entry = catalogue.entry(model)
    if isinstance(entry, Upstream):
        found, num_tokens = await entry.vectors(texts, dimensions=dimensions)
        return [torch.tensor(vector) for vector in found], num_tokens
    serving = await catalogue.encoder(model)
    requests = await serving.requests(serving.encoder.embedding_request, each_of(texts, param="input"))
    vectors = await all_of(map(serving.pool, requests))
    return [_cut(vector, dimensions) for vector in vectors], sum(len(one.tokens) for one in requests)


def _cut(vector: Float[Tensor, " D"], dimensions: int | None) -> Float[Tensor, " d"]:
    if dimensions is None:
        return vector
    if not 1 <= dimensions <= len(vector):
        raise ServerError(
            f"dimensions={dimensions}, and a vector of this model has {len(vector)}. Give 1 to {len(vector)}.",
            param="dimensions",
        )
    return torch.nn.functional.normalize(vector[:dimensions], dim=0)


def _in_base64(vector: Float[Tensor, " D"]) -> str:
    return base64.b64encode(vector.float().cpu().numpy().astype("<f4").tobytes()).decode()
