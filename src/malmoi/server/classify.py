"""`/v1/classify` and `/v1/rerank`: what an encoder's head says of texts, and which documents answer a question.

Read next: `openai/embeddings.py`, where an encoder has no head; `llm/text_encoder.py`.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from fastapi import APIRouter
from pydantic import Field

from malmoi.llm import AsyncTextEncoder
from malmoi.server.bodies import Body
from malmoi.server.catalogue.catalogue import Catalogue
from malmoi.server.each import all_of
from malmoi.server.errors import ServerError
from malmoi.server.strict_json import StrictRoute


class ClassifyBody(Body):
    """The body of /v1/classify."""

    model: str = Field("", description="A name of /v1/models that has a classifier; not given: the first.")
    input: str | list[str] = Field(description="A text, or several.")
    user: str = Field("", description="Who asks; for your own records, it changes nothing.")


class RerankBody(Body):
    """The body of /v1/rerank."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        "max_chunks_per_doc": "a document is read whole. Cut it yourself.",
        "max_tokens_per_doc": "a document is read whole. Cut it yourself.",
        "rank_fields": "documents are texts.",
    }

    model: str = Field("", description="A name of /v1/models that reads text; not given: the first.")
    query: str = Field(description="What is asked.")
    documents: list[str] = Field(description="What may answer it.")
    top_n: int | None = Field(None, ge=1, description="Only so many of the best.")
    return_documents: bool = Field(True, description="With the texts, not their numbers alone.")


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoints over `catalogue`."""
    router = APIRouter(tags=["encoders"], route_class=StrictRoute)

    @router.post("/v1/classify")
    async def classify(body: ClassifyBody) -> dict[str, Any]:
        """The label of each text, and how likely each label is."""
        texts = [body.input] if isinstance(body.input, str) else body.input
        if not texts:
            raise ServerError("input is empty. Give texts.", param="input")
        serving = await catalogue.encoder(body.model)
        if not serving.encoder.has_classifier:
            raise ServerError("this model has no classifier of texts. Name one that has.", param="model")
        data, num_tokens = await _classified(serving, texts)
        return {
            "id": f"classify-{uuid.uuid4().hex}",
            "object": "list",
            "model": catalogue.name(body.model),
            "data": data,
            "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
        }

    @router.post("/v1/rerank")
    async def rerank(body: RerankBody) -> dict[str, Any]:
        """The documents by how well they fit the query, the best first."""
        if not body.documents:
            raise ServerError("documents is empty. Give texts.", param="documents")
        serving = await catalogue.encoder(body.model)
        scores, num_tokens = await _relevance(serving, body.query, body.documents)
        best = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.top_n]
        results: list[dict[str, Any]] = [{"index": index, "relevance_score": scores[index]} for index in best]
        if body.return_documents:
            results = [{**one, "document": {"text": body.documents[one["index"]]}} for one in results]
        return {
            "id": f"rerank-{uuid.uuid4().hex}",
            "model": catalogue.name(body.model),
            "results": results,
            "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
        }

    return router


async def _classified(serving: AsyncTextEncoder, texts: Sequence[str]) -> tuple[list[dict[str, Any]], int]:
    requests = await serving.requests(serving.encoder.classification_request, texts)
    found = map(serving.encoder.classification, await all_of(map(serving.pool, requests)))
    data = [
        {
            "object": "classification",
            "index": index,
            "label": one.label,
            "score": one.score,
            "scores": dict(one.scores),
        }
        for index, one in enumerate(found)
    ]
    return data, sum(len(request.tokens) for request in requests)


async def _relevance(
    serving: AsyncTextEncoder, query: str, documents: Sequence[str]
) -> tuple[list[float], int]:
    """How well each fits: what a head with one label says of the pair, or without a head the cosine of their vectors.

    Raises ServerError for a head of several labels, which has no one score.
    """
    encoder = serving.encoder
    if not encoder.has_classifier:
        requests = await serving.requests(encoder.embedding_request, [query, *documents])
        asked, *vectors = await all_of(map(serving.pool, requests))
        scores = torch.cosine_similarity(torch.stack(vectors), asked[None]).tolist()
    elif len(encoder.model.config.labels) == 1:
        requests = await serving.requests(
            encoder.classification_request, [(query, document) for document in documents]
        )
        scores = [float(score) for score in await all_of(map(serving.pool, requests))]
    else:
        raise ServerError(
            f"the classifier of this model has {len(encoder.model.config.labels)} labels, and to rank takes one score. "
            "Use an encoder of sentences, or one with one label.",
            param="model",
        )
    return scores, sum(len(request.tokens) for request in requests)
