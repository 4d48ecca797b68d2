"""The application: endpoints over a catalogue of models, in layers that see every request first (`_add_layers`).

Place in the flow: `malmoi serve` makes one and gives it to uvicorn. Read next: `catalogue/catalogue.py`,
`openai/chat.py`; `trust/layer.py`.
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
from malmoi.server import classify, metrics, models, render, tokens
from malmoi.server.anthropic import messages
from malmoi.server.catalogue.catalogue import Catalogue
from malmoi.server.catalogue.holds import HoldModels
from malmoi.server.dialect import as_response
from malmoi.server.disconnect import CancelOnDisconnect
from malmoi.server.documented import DocumentedApp
from malmoi.server.ollama import answers as ollama
from malmoi.server.ollama import models as ollama_models
from malmoi.server.openai import chat, completions, embeddings, responses, transcriptions
from malmoi.server.trust.access import AllowOrigins, PageHeaders, RequireHost, RequireKey, RequireOrigin
from malmoi.server.trust.layer import AnswerAll
from malmoi.server.trust.limits import LimitBody, LimitRate, LimitRequests
from malmoi.server.trust.logged import LogPrompts

PAGE = Path(__file__).with_name("page")
PARTS = (
    chat, render, completions, responses, embeddings, classify, transcriptions, messages, ollama, ollama_models,
    models, tokens, metrics,
)  # fmt: skip
"""The modules that have endpoints, each with `routes(catalogue)`."""


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What a server allows.

    `api_keys`: one of them has to come with a request; none: nobody is asked. `hosts`: the names that it answers to;
    none: any. `origins`: other pages than its own that may ask, such as "https://chat.example"; "*": all.
    `max_body_bytes`: the largest request, images included. `max_pause`: how many seconds longer a body may take than at
    16 KiB/s. `max_requests`: waiting and running. `rate`: a minute, of each key, or of each address; None: any.
    `logs_prompts`: what is asked is written to the log.
    """

    api_keys: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    max_body_bytes: int = 32 * 2**20
    max_pause: float = 30.0
    max_requests: int = 256
    rate: int | None = None
    logs_prompts: bool = False


def create_app(catalogue: Catalogue, settings: ServerSettings) -> FastAPI:
    """The application. It loads the first model as soon as it runs, and closes all of them at its end.

    >>> app = create_app(Catalogue({"default": None}, load=lambda path: malmoi.load(path)), ServerSettings())
    >>> sorted(path for path in app.openapi()["paths"] if path.startswith("/v1/chat"))
    ['/v1/chat/completions', '/v1/chat/render']
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None, None]:
        first = asyncio.ensure_future(catalogue.start())
        try:
            yield
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await catalogue.close()

    app = DocumentedApp(title="Malmoi", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    for kind in (MalmoiError, RequestValidationError, HTTPException, RecursionError):
        app.add_exception_handler(kind, as_response)
    for part in PARTS:
        app.include_router(part.routes(catalogue))

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @app.get("/docs", include_in_schema=False)
    async def reference() -> FileResponse:
        return FileResponse(PAGE / "reference.html")

    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    _add_layers(app, settings)
    return app


def _add_layers(app: FastAPI, settings: ServerSettings) -> None:
    """From the innermost to the outermost, so a request passes the last line first."""
    app.add_middleware(HoldModels)
    app.add_middleware(CancelOnDisconnect)
    app.add_middleware(AnswerAll)
    if settings.logs_prompts:
        app.add_middleware(LogPrompts)
    app.add_middleware(LimitBody, max_bytes=settings.max_body_bytes, max_pause=settings.max_pause)
    app.add_middleware(LimitRequests, most=settings.max_requests)
    if settings.rate is not None:
        app.add_middleware(LimitRate, rate=settings.rate)
    if settings.api_keys:
        app.add_middleware(RequireKey, keys=settings.api_keys)
    app.add_middleware(RequireOrigin, origins=settings.origins)
    if settings.origins:
        app.add_middleware(AllowOrigins, origins=settings.origins)
    if settings.hosts:
        app.add_middleware(RequireHost, hosts=settings.hosts)
    app.add_middleware(PageHeaders)
