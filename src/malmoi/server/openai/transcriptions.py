"""`/v1/audio/transcriptions` and `/v1/audio/translations`: a sound goes in as a form, what is said in it comes out.

Read next: `llm/transcribe.py`, which writes it down.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from fastapi import APIRouter, Depends, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from pydantic import ConfigDict, Field, ValidationError

from malmoi.server.bodies import Body
from malmoi.server.catalogue.catalogue import Catalogue
from malmoi.server.errors import ServerError

_NO_TIMES = "the models here say what was said, not when."


class TranslationBody(Body):
    """The form of /v1/audio/translations."""

    model_config = ConfigDict(extra="forbid", strict=False)  # in a form all values are text
    REFUSED: ClassVar[Mapping[str, str]] = {
        "prompt": "the models here begin with the sound.",
        "timestamp_granularities[]": _NO_TIMES,
        "timestamp_granularities": _NO_TIMES,
        "stream": "a text comes whole.",
        "include[]": "there are no likelihoods of transcripts.",
        "include": "there are no likelihoods of transcripts.",
        "chunking_strategy": "a long sound is cut where the model's window ends.",
    }

    file: UploadFile = Field(description="The sound: WAV, FLAC or OGG.")
    model: str = Field("", description="A name of /v1/models that hears; not given: the first.")
    response_format: Literal["json", "text"] = Field("json", description="An object, or the text alone.")
    temperature: float = Field(0.0, ge=0, le=0, description="0: always the likeliest token.")


class TranscriptionBody(TranslationBody):
    """The form of /v1/audio/transcriptions."""

    language: str | None = Field(None, description="What is spoken: ko, en, ...; not given: what is heard.")


B = TypeVar("B", bound=TranslationBody)
_AS_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}
"""The other form of an answer, for the description of the API."""


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoints over `catalogue`."""
    router = APIRouter(tags=["audio"])

    @router.post(
        "/v1/audio/transcriptions", response_model=None, responses=_AS_TEXT, openapi_extra=_described(TranscriptionBody)
    )
    async def transcribe(
        body: Annotated[TranscriptionBody, Depends(_form(TranscriptionBody))],
    ) -> Response | dict[str, Any]:
        """Write down what is said in a sound."""
        return await _answer(catalogue, body, language=body.language, task="transcribe")

    @router.post(
        "/v1/audio/translations", response_model=None, responses=_AS_TEXT, openapi_extra=_described(TranslationBody)
    )
    async def translate(
        body: Annotated[TranslationBody, Depends(_form(TranslationBody))],
    ) -> Response | dict[str, Any]:
        """The same in English, whatever is spoken."""
        return await _answer(catalogue, body, language=None, task="translate")

    return router


async def _answer(
    catalogue: Catalogue, body: TranslationBody, *, language: str | None, task: str
) -> Response | dict[str, Any]:
    transcriber = await catalogue.transcriber(body.model)
    sound = await body.file.read()
    found = await transcriber.transcribe(sound, language=language, task=task)
    if body.response_format == "text":
        return PlainTextResponse(found.text + "\n")
    return {"text": found.text, "language": found.language}


def _form(kind: type[B]) -> Callable[[Request], AsyncIterator[B]]:
    """What reads a form into a `kind`, and raises as a JSON body does."""

    async def read(request: Request) -> AsyncIterator[B]:
        async with request.form(max_files=1, max_fields=16) as form:
            for name in kind.model_fields:
                if len(form.getlist(name)) > 1:
                    raise ServerError(f"{name!r} is twice in the form. Give it once.", param=name)
            try:
                body = kind.model_validate(dict(form))
            except ValidationError as error:
                problems = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
                raise RequestValidationError(problems) from None
            yield body

    return read


def _described(kind: type[TranslationBody]) -> dict[str, Any]:
    """The form, for the description of the API."""
    content = {"multipart/form-data": {"schema": kind.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}
