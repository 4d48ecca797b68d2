"""`/v1/chat/render`: a conversation as the model reads it: text, ids, and which of them training would teach.

Read next: `malmoi/text/chat.py`, the one renderer for both.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

from fastapi import APIRouter
from pydantic import Field

from malmoi.llm.parts import without_media
from malmoi.server.bodies import Body
from malmoi.server.catalogue import Catalogue


class RenderBody(Body):
    """The body of /v1/chat/render."""

    REFUSED: ClassVar[Mapping[str, str]] = {
        "tools": "write what the model may call into the system message.",
        "chat_template": "a model has one chat format.",
        "chat_template_kwargs": "there are none here yet.",
    }

    model: str = Field("", description="A name of /v1/models; not given: the first.")
    messages: list[dict[str, Any]] = Field(description="The conversation, oldest first.")
    add_generation_prompt: bool = Field(
        True, description="Open a turn for the assistant; false: as a sample to train on."
    )
    continue_final_message: bool = Field(
        False, description="Leave the last message open instead; without `add_generation_prompt`."
    )


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoint over `catalogue`."""
    router = APIRouter(tags=["chat"])

    @router.post("/v1/chat/render")
    async def render(body: RenderBody) -> dict[str, Any]:
        """The text of a conversation, its ids, and for each whether the assistant would learn to write it.

        An image or a sound is the one placeholder that it has in the text, before its features take its place.
        """
        builder = (await catalogue.get(body.model)).llm.builder
        messages, _ = without_media(body.messages)
        rendered = await asyncio.to_thread(
            builder.render,
            messages,
            add_generation_prompt=body.add_generation_prompt,
            continue_final_message=body.continue_final_message,
        )
        return {
            "text": rendered.text,
            "ids": rendered.ids,
            "loss_mask": rendered.loss_mask,
            "count": len(rendered.ids),
        }

    return router
