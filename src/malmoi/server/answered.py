"""An answer over HTTP, whole or as it comes, by whichever model was chosen: what all dialects have in common.

    catalogue.choose -> Chosen -> Writer.answer -> a `Told` of the dialect -> `respond`: events, or one object

Place in the flow: every endpoint that writes text calls `respond`. Read next: `openai/form.py`, a `Told` of OpenAI's;
`sse.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, ClassVar
from urllib.parse import quote

from fastapi.responses import JSONResponse, Response

from malmoi.llm import Completion, TokenLogprob
from malmoi.server.catalogue.writer import Chosen, Steps, Writer
from malmoi.server.errors import ServerError
from malmoi.server.sse import Item, event_stream
from malmoi.server.wire import Wire


class Told(ABC):
    """An answer in the words of a protocol, written down with `wire`."""

    wire: ClassVar[Wire]

    @abstractmethod
    def whole(self, completion: Completion) -> dict[str, Any]:
        """The answer in one object."""

    @abstractmethod
    def events(self, steps: Steps) -> AsyncGenerator[Item, None]:
        """The answer as it comes. The first item is there when the request is accepted; closing them ends it."""


async def respond(steps: Steps, told: Told, chosen: Chosen, *, is_stream: bool) -> Response:
    """The response with an answer."""
    if is_stream:
        return await event_stream(told.events(steps), told.wire, headers=headers_of(chosen))
    completion = await completion_of(steps)
    return JSONResponse(told.whole(completion), headers=headers_of(chosen))


def headers_of(chosen: Chosen) -> dict[str, str]:
    """Who answers, and why, if that was left open. What is not ASCII is as in a URL: 작은 is `%EC%9E%91%EC%9D%80`."""
    said = {"x-malmoi-model": chosen.name, "x-malmoi-why": chosen.why}
    return {name: quote(text, safe=_READABLE) for name, text in said.items() if text is not None}


def choice_of(chosen: Chosen, asked: str) -> dict[str, Any]:
    """What an answer says of the choice: `{"malmoi": {"asked": "auto", "why": ...}}`; nothing if a model was named."""
    return {} if chosen.why is None else {"malmoi": {"asked": asked, "why": chosen.why}}


async def completion_of(steps: Steps) -> Completion:
    """The last of the steps."""
    async with aclosing(steps):
        async for step in steps:
            if isinstance(step, Completion):
                return step
    raise AssertionError("the completion is the last step")


def message_of(completion: Completion) -> dict[str, Any]:
    """What the assistant has said, as chat formats read it and OpenAI writes it."""
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in completion.tool_calls
    ]
    return {
        "role": "assistant",
        "content": completion.text or (None if calls else ""),
        **({"reasoning_content": completion.thought} if completion.thought else {}),
        **({"tool_calls": calls} if calls else {}),
    }


def usage(*completions: Completion) -> dict[str, Any]:
    """Tokens of each prompt, once, and of all texts."""
    texts = [one for each in completions for one in (each, *each.siblings)]
    num_prompt = sum(each.usage.prompt_tokens for each in completions)
    num_new = sum(one.usage.completion_tokens for one in texts)
    return {
        "prompt_tokens": num_prompt,
        "completion_tokens": num_new,
        "total_tokens": num_prompt + num_new,
        "prompt_tokens_details": {"cached_tokens": sum(each.usage.cached_tokens for each in completions)},
        "completion_tokens_details": {"reasoning_tokens": sum(one.usage.thought_tokens for one in texts)},
    }


def timings(completion: Completion) -> dict[str, float]:
    """Seconds to the first token, and how fast the others came."""
    times = completion.timings
    return {"first_token_s": times.first_token, "tokens_per_second": times.tokens_per_second}


def special_ids(writer: Writer) -> frozenset[int]:
    """Ids that are no text; what comes from elsewhere says of each token itself that it has none."""
    try:
        return frozenset(writer.local.tokenizer.special_tokens.values())
    except ServerError:
        return frozenset()


def piece(token: TokenLogprob) -> str:
    r"""A token as text; of one that is a part of a character, its bytes as `\xed\x95`."""
    try:
        return token.bytes.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in token.bytes)


def text_bytes(token: TokenLogprob, special_ids: frozenset[int]) -> list[int]:
    """The bytes of a token's text. A special one has none, so that those of all make up the text."""
    return [] if token.token in special_ids else list(token.bytes)


_READABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
