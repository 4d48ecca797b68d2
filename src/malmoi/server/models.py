"""Which models there are, and whether the server is well: `/v1/models`, `/health`, `/ready`. Read next: `tokens.py`."""

from typing import Any

from fastapi import APIRouter

from malmoi.server.catalogue.catalogue import Catalogue
from malmoi.server.errors import ServerError


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoints over `catalogue`."""
    router = APIRouter(tags=["models"])

    @router.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """All models, the one that is used without a name first."""
        return {"object": "list", "data": [_described(catalogue, name) for name in catalogue.names]}

    @router.get("/v1/models/{name:path}")
    async def get_model(name: str) -> dict[str, Any]:
        """One of them."""
        return _described(catalogue, catalogue.name(name))

    @router.get("/health")
    async def health() -> dict[str, str]:
        """200 as long as the server answers at all."""
        return {"status": "ok"}

    @router.get("/ready")
    async def ready() -> dict[str, str]:
        """200 when the first model is loaded, 503 before."""
        if not catalogue.is_ready:
            raise ServerError("the first model is still being loaded. Ask again.", status=503, retry_after=1)
        return {"status": "ready"}

    return router


def _described(catalogue: Catalogue, name: str) -> dict[str, Any]:
    """In OpenAI's form, with what is known of it now: more of a model that is loaded."""
    said = catalogue.entries[name].described()
    return {"id": name, "object": "model", "created": 0, "owned_by": "malmoi", "malmoi": said}
