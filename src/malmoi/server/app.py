"""The application: endpoints over a catalogue of models, in the layers of `trust.py`.

Place in the flow: `malmoi serve` makes one and gives it to uvicorn. Read next: `catalogue.py`, `chat.py`.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from malmoi import __version__
from malmoi.core.errors import MalmoiError
from malmoi.server import (
    anthropic,
    chat,
    classify,
    completions,
    embeddings,
    metrics,
    models,
    ollama,
    ollama_models,
    render,
    responses,
    tokens,
    transcriptions,
)
from malmoi.server.catalogue import Catalogue
from malmoi.server.errors import as_response
from malmoi.server.trust import LimitBody, LimitRequests, PageHeaders, RequireHost, RequireKey

PAGE = Path(__file__).with_name("page")
PARTS = (
    chat, render, completions, responses, embeddings, classify, transcriptions, anthropic, ollama, ollama_models,
    models, tokens, metrics,
)  # fmt: skip
"""The modules that have endpoints, each with `routes(catalogue)`."""


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What a server allows.

    `api_keys`: one of them has to come with a request; none: nobody is asked. `hosts`: the names that it answers to;
    none: any. `max_body_bytes`: the largest request, images included. `max_pause`: the longest, in seconds, that a body
    may keep the server waiting. `max_requests`: waiting and running.
    """

    api_keys: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    max_body_bytes: int = 32 * 2**20
    max_pause: float = 30.0
    max_requests: int = 256


def create_app(catalogue: Catalogue, settings: ServerSettings) -> FastAPI:
    """The application. It loads the first model as soon as it runs, and closes all of them at its end.

    >>> app = create_app(Catalogue({"default": None}, load=lambda path: malmoi.load(path)), ServerSettings())
    >>> sorted(path for path in app.openapi()["paths"] if path.startswith("/v1/chat"))
    ['/v1/chat/completions', '/v1/chat/render']
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        first = asyncio.ensure_future(catalogue.model(""))
        try:
            yield
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await catalogue.close()

    app = FastAPI(title="Malmoi", version=__version__, lifespan=lifespan, redoc_url=None)
    for kind in (MalmoiError, RequestValidationError, HTTPException, RecursionError, Exception):
        app.add_exception_handler(kind, as_response)
    for part in PARTS:
        app.include_router(part.routes(catalogue))

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    app.add_middleware(LimitBody, max_bytes=settings.max_body_bytes, max_pause=settings.max_pause)
    app.add_middleware(LimitRequests, most=settings.max_requests)
    if settings.api_keys:
        app.add_middleware(RequireKey, keys=settings.api_keys)
    if settings.hosts:
        app.add_middleware(RequireHost, hosts=settings.hosts)
    app.add_middleware(PageHeaders)
    return app
