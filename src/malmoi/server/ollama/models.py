"""`/api/tags`, `/api/ps`, `/api/show`, `/api/version`: which models there are, as Ollama's clients read it.

What would fetch, make or delete models is refused: the server has those that it was started with. Read next:
`server/models.py`, the same in OpenAI's form.
"""

import hashlib
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter

from malmoi import __version__
from malmoi.budget import weight_bytes
from malmoi.llm import LLM, TextEncoder
from malmoi.models import count_parameters
from malmoi.models.registry import family_of
from malmoi.server.catalogue.catalogue import Catalogue
from malmoi.server.catalogue.loaded import Loaded
from malmoi.server.catalogue.local import LocalModel
from malmoi.server.errors import ServerError
from malmoi.server.ollama.bodies import OllamaShowBody
from malmoi.server.strict_json import StrictRoute

_OF_A_STORE = {
    "/api/pull": "POST",
    "/api/push": "POST",
    "/api/create": "POST",
    "/api/copy": "POST",
    "/api/delete": "DELETE",
}

_OF_A_KIND = {"writes": "completion", "reads": "embedding", "hears": "audio"}
"""What a model that has left can do at least."""


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoints over `catalogue`."""
    router = APIRouter(tags=["ollama"], route_class=StrictRoute)

    @router.get("/api/tags")
    async def tags() -> dict[str, Any]:
        """All models; more is known of those that are loaded."""
        return {"models": [_described(name, catalogue.loaded(name)) for name in catalogue.names]}

    @router.get("/api/ps")
    async def ps() -> dict[str, Any]:
        """Those that are loaded."""
        return {
            "models": [
                _running(name, entry, entry.there)
                for name, entry in catalogue.entries.items()
                if isinstance(entry, LocalModel) and entry.there is not None
            ]
        }

    @router.post("/api/show")
    async def show(body: OllamaShowBody) -> dict[str, Any]:
        """What a model is, as far as that is known: to be shown loads none."""
        if (not body.model and not body.name) or (body.model and body.name and body.model != body.name):
            raise ServerError(
                "model is the name of a model, and name its older form. Give one.", param="model"
            )
        entry = catalogue.entry(body.model or body.name)
        if not isinstance(entry, LocalModel):
            length = entry.described().get("context_length")
            info = {"general.architecture": entry.kind, f"{entry.kind}.context_length": length}
            return {"details": {"family": entry.kind}, "model_info": info, "capabilities": ["completion"]}
        if (loaded := entry.there) is None:
            can = [_OF_A_KIND[entry.kind]] if entry.kind else []
            return {"details": {}, "model_info": {}, "capabilities": can}
        family = _family(loaded)
        info = {
            "general.architecture": family,
            "general.parameter_count": count_parameters(loaded.model),
            f"{family}.context_length": loaded.model.max_positions,
        }
        return {"details": _details(loaded), "model_info": info, "capabilities": _capabilities(loaded)}

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
        else {**described, "size": weight_bytes(loaded.model), "details": _details(loaded)}
    )


def _capabilities(loaded: Loaded) -> list[str]:
    """What a model can do, in Ollama's words."""
    match loaded:
        case LLM(abilities=can):
            has = {
                "completion": True,
                "tools": can.tools,
                "thinking": can.thinking != "never",
                "insert": can.fills_gaps,
                "vision": "image" in can.media,
                "audio": "audio" in can.media,
            }
            return [word for word, it_has in has.items() if it_has]
        case TextEncoder():
            return ["embedding"]
    return ["audio"]


def _running(name: str, entry: LocalModel, loaded: Loaded) -> dict[str, Any]:
    leaves_at = entry.leaves_at
    return {
        **_described(name, loaded),
        "size": entry.num_bytes,
        "size_vram": 0 if loaded.model.device.type == "cpu" else entry.num_bytes,
        "context_length": loaded.model.max_positions,
        "expires_at": None if leaves_at is None else datetime.fromtimestamp(leaves_at, UTC).isoformat(),
    }


def _details(loaded: Loaded) -> dict[str, Any]:
    return {
        "family": _family(loaded),
        "families": [_family(loaded)],
        "parameter_size": f"{count_parameters(loaded.model) / 1e6:.1f}M",
        "quantization_level": str(loaded.model.dtype).removeprefix("torch."),
    }


def _family(loaded: Loaded) -> str:
    return family_of(loaded.model.config).model_type
