"""`/api/tags`, `/api/ps`, `/api/show`, `/api/version`: which models there are, as Ollama's clients read it.

What would fetch, make or delete models is refused: the server has those that it was started with. Read next:
`models.py`, the same in OpenAI's form.
"""

import hashlib
from typing import Any

from fastapi import APIRouter

from malmoi import __version__
from malmoi.llm import TextEncoder
from malmoi.models import count_parameters
from malmoi.models.registry import family_of
from malmoi.server.catalogue import Catalogue, Loaded
from malmoi.server.dialect import errors_as
from malmoi.server.errors import ServerError
from malmoi.server.ollama import error_of
from malmoi.server.ollama_bodies import OllamaShowBody

_OF_A_STORE = {
    "/api/pull": "POST",
    "/api/push": "POST",
    "/api/create": "POST",
    "/api/copy": "POST",
    "/api/delete": "DELETE",
}


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoints over `catalogue`, with errors in Ollama's form."""
    router = APIRouter(tags=["ollama"], route_class=errors_as(error_of))

    @router.get("/api/tags")
    async def tags() -> dict[str, Any]:
        """All models; more is known of those that are loaded."""
        return {"models": [_described(name, catalogue.loaded(name)) for name in catalogue.names]}

    @router.get("/api/ps")
    async def ps() -> dict[str, Any]:
        """Those that are loaded."""
        there = [(name, loaded) for name in catalogue.names if (loaded := catalogue.loaded(name))]
        return {
            "models": [
                {
                    **_described(name, loaded),
                    "size_vram": 0 if loaded.model.device.type == "cpu" else _num_bytes(loaded),
                    "context_length": loaded.model.max_positions,
                }
                for name, loaded in there
            ]
        }

    @router.post("/api/show")
    async def show(body: OllamaShowBody) -> dict[str, Any]:
        """What a model is."""
        loaded = await catalogue.model(body.model)
        family = _family(loaded)
        info = {
            "general.architecture": family,
            "general.parameter_count": count_parameters(loaded.model),
            f"{family}.context_length": loaded.model.max_positions,
        }
        abilities = ["embedding"] if isinstance(loaded, TextEncoder) else ["completion"]
        return {"details": _details(loaded), "model_info": info, "capabilities": abilities}

    @router.get("/api/version")
    async def version() -> dict[str, str]:
        """That of Malmoi."""
        return {"version": __version__}

    async def refuse() -> None:
        """Nothing: models are not fetched, made or deleted here."""
        raise ServerError(
            "the server has the models that it was started with. Start it with another --model."
        )

    for path, method in _OF_A_STORE.items():
        router.add_api_route(path, refuse, methods=[method])
    return router


def _described(name: str, loaded: Loaded | None) -> dict[str, Any]:
    # Clients cut a digest to its first letters, and tell models apart by it.
    described = {"name": name, "model": name, "digest": hashlib.sha256(name.encode()).hexdigest()}
    return (
        described
        if loaded is None
        else {**described, "size": _num_bytes(loaded), "details": _details(loaded)}
    )


def _details(loaded: Loaded) -> dict[str, Any]:
    return {
        "family": _family(loaded),
        "families": [_family(loaded)],
        "parameter_size": f"{count_parameters(loaded.model) / 1e6:.1f}M",
        "quantization_level": str(loaded.model.dtype).removeprefix("torch."),
    }


def _family(loaded: Loaded) -> str:
    return family_of(loaded.model.config).model_type


def _num_bytes(loaded: Loaded) -> int:
    return sum(tensor.nbytes for tensor in loaded.model.state_dict().values())
