"""`/v1/chat/render`: a conversation as the model reads it: text, ids, and which of them training would teach.

Read next: `malmoi/text/chat.py`, the one renderer for both.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

from fastapi import APIRouter
from pydantic import Field

from malmoi.llm.chat_format import ChatFormat
from malmoi.llm.parts import without_media
from malmoi.llm.prompt import ChatPrompt
from malmoi.server.bodies import Body
from malmoi.server.catalogue.catalogue import Catalogue
from malmoi.server.errors import ServerError
from malmoi.server.openai.chat_bodies import TemplateVariables
from malmoi.server.openai.chat_prompt import is_gone_on_with, messages_of
from malmoi.server.strict_json import StrictRoute
from malmoi.server.tools import Tool, functions, with_tools
from malmoi.text.chat import Rendered


class RenderBody(Body):
    """The body of /v1/chat/render."""

    REFUSED: ClassVar[Mapping[str, str]] = {"chat_template": "a model has one chat format."}

    model: str = Field("", description="A name of /v1/models; not given: the first.")
    messages: list[dict[str, Any]] = Field(
        description="The conversation, oldest first. With `prefix` true the assistant's last one is left open."
    )
    tools: list[Tool] = Field([], description="What the model is shown that it may call.")
    chat_template_kwargs: TemplateVariables | None = Field(None, description="Variables of the chat format.")
    add_generation_prompt: bool = Field(
        True, description="Open a turn for the assistant; false: as a sample to train on."
    )
    continue_final_message: bool = Field(
        False, description="Leave the last message open instead; without `add_generation_prompt`."
    )


def routes(catalogue: Catalogue) -> APIRouter:
    """The endpoint over `catalogue`."""
    router = APIRouter(tags=["chat"], route_class=StrictRoute)

    @router.post("/v1/chat/render")
    async def render(body: RenderBody) -> dict[str, Any]:
        """The text of a conversation, its ids, and for each whether the assistant would learn to write it.

        An image or a sound is the one placeholder that it has in the text, before its features take its place.
        """
        chat = (await catalogue.get(body.model)).llm.builder.chat
        rendered = await asyncio.to_thread(_rendered, chat, body)
        return {
            "text": rendered.text,
            "ids": rendered.ids,
            "loss_mask": rendered.loss_mask,
            "count": len(rendered.ids),
        }

    return router


def _rendered(chat: ChatFormat, body: RenderBody) -> Rendered:
    """Raises ServerError for a switch that the format does not have, TemplateError for what it cannot say."""
    messages, _ = without_media(messages_of(body.messages))
    is_prefix = is_gone_on_with(body.messages, is_asked=False)
    opens = body.add_generation_prompt and not (
        is_prefix and "add_generation_prompt" not in body.model_fields_set
    )
    prompt = with_tools(ChatPrompt(messages=messages), functions(body.tools))
    thinks = None if body.chat_template_kwargs is None else body.chat_template_kwargs.enable_thinking
    switch = None if chat.thoughts is None else chat.thoughts.switch
    if thinks is not None and switch is None:
        raise ServerError(
            "this model's chat format has no switch for thinking. Leave out chat_template_kwargs.",
            param="chat_template_kwargs",
        )
    return chat.render(
        messages,
        add_generation_prompt=opens,
        continue_final_message=body.continue_final_message or is_prefix,
        tools=[tool.described for tool in chat.shown(prompt)] or None,
        **({} if thinks is None or switch is None else {switch: thinks}),
    )
