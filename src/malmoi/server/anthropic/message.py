"""How Anthropic's protocol tells an answer: a message of blocks, a thought, text, calls, or the events that make one.

    Delta, Completion -> BLOCKS: one opens, is filled, closes before the next -> SAID: events, or a message

Place in the flow: `messages.py` hands it to `respond`. Read next: `wire.py`.
"""

import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from malmoi.llm import Completion
from malmoi.llm.answer import Delta
from malmoi.llm.completion import FinishedBy
from malmoi.server.answered import Told, choice_of
from malmoi.server.anthropic.bodies import MessagesBody
from malmoi.server.catalogue.writer import Chosen, Steps
from malmoi.server.dialect import anthropic_error
from malmoi.server.sse import Item
from malmoi.server.tools import arguments_of
from malmoi.server.wire import NamedEvents

_REASONS: dict[FinishedBy, str] = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}


class AnthropicEvents(NamedEvents):
    """Named events, and errors in Anthropic's form."""

    def failed(self, error: BaseException) -> Mapping[str, Any]:
        return anthropic_error(error)[1]


class Said(Told):
    """An answer to a body as a message, or as the events that make one."""

    wire = AnthropicEvents()

    def __init__(self, chosen: Chosen, body: MessagesBody) -> None:
        self._names_stop = bool(body.stop_sequences)
        self._head = {
            "id": f"msg_{uuid.uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": chosen.name,
            **choice_of(chosen, body.model),
        }

    def whole(self, completion: Completion) -> dict[str, Any]:
        blocks: list[dict[str, Any]] = []
        if completion.thought:
            blocks.append(_thought(completion.thought))
        if completion.text:
            blocks.append(_text(completion.text))
        blocks += [_call(call.id, call.name, arguments_of(call)) for call in completion.tool_calls]
        return {**self._head, "content": blocks, **self._ending(completion), "usage": _usage(completion)}

    async def events(self, steps: Steps) -> AsyncGenerator[Item, None]:
        """None when the request is accepted. How many tokens the prompt has is told at the end, as all of the usage."""
        async with aclosing(steps):
            await anext(steps)
            yield None
            opening: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None}
            usage = {"input_tokens": 0, "output_tokens": 0}
            yield {"type": "message_start", "message": {**self._head, **opening, "usage": usage}}
            blocks = Blocks()
            async for step in steps:
                if isinstance(step, Completion):
                    for event in blocks.closed():
                        yield event
                    yield {"type": "message_delta", "delta": self._ending(step), "usage": _usage(step)}
                    yield {"type": "message_stop"}
                    return
                for event in blocks.added(step[0]):
                    yield event

    def _ending(self, completion: Completion) -> dict[str, Any]:
        """Why it has ended. A text that the model's own files end it before is no stop sequence of the client's."""
        if completion.stop is not None and self._names_stop:
            return {"stop_reason": "stop_sequence", "stop_sequence": completion.stop}
        return {"stop_reason": _REASONS[completion.finish_reason], "stop_sequence": None}


class Blocks:
    """The blocks of a message as they come: one is open at a time, and closed before another begins."""

    def __init__(self) -> None:
        self._open: object = None
        self._index = -1

    def added(self, delta: Delta) -> Iterator[dict[str, Any]]:
        """The events of what a step has added (mutates the blocks)."""
        if delta.thought:
            yield from self._in("thinking", _thought(""))
            yield self._delta(type="thinking_delta", thinking=delta.thought)
        if delta.text:
            yield from self._in("text", _text(""))
            yield self._delta(type="text_delta", text=delta.text)
        for call in delta.calls:
            yield from self._in(call.place, _call(call.id, call.name, {}))
            if call.arguments:
                yield self._delta(type="input_json_delta", partial_json=call.arguments)

    def closed(self) -> Iterator[dict[str, Any]]:
        """That the one that is open is complete, if there is one."""
        if self._open is not None:
            yield {"type": "content_block_stop", "index": self._index}

    def _in(self, kind: object, block: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The events after which a block of this kind is open: that one, or a new one."""
        if kind != self._open:
            yield from self.closed()
            self._open, self._index = kind, self._index + 1
            yield {"type": "content_block_start", "index": self._index, "content_block": block}

    def _delta(self, **delta: str) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._index, "delta": delta}


def _usage(completion: Completion) -> dict[str, int]:
    used = completion.usage
    return {"input_tokens": used.prompt_tokens, "output_tokens": used.completion_tokens}


def _thought(text: str) -> dict[str, Any]:
    """Anthropic's servers sign thoughts, and their clients want a signature; nothing here reads one."""
    return {"type": "thinking", "thinking": text, "signature": ""}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _call(id: str, name: str, given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": given}
