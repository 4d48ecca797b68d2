"""How Ollama's protocol tells an answer: lines of JSON, messages of a chat or pieces of a text, or one object.

Place in the flow: `answers.py` hands one of these to `respond`. Read next: `wire.py`.
"""

import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from malmoi.llm import Completion, TokenLogprob
from malmoi.llm.completion import ToolCall
from malmoi.server.answered import Told, piece, text_bytes
from malmoi.server.catalogue.writer import Steps
from malmoi.server.dialect import ollama_error
from malmoi.server.sse import Item
from malmoi.server.tools import arguments_of
from malmoi.server.wire import Lines


class OllamaLines(Lines):
    """Lines of JSON, and errors in Ollama's form."""

    def failed(self, error: BaseException) -> Mapping[str, Any]:
        return ollama_error(error)[1]


class OllamaTold(Told):
    """An answer as lines, or as one object."""

    wire = OllamaLines()

    def __init__(
        self, name: str, choice: Mapping[str, Any], special_ids: frozenset[int] = frozenset()
    ) -> None:
        self._head, self._choice, self._special_ids = {"model": name}, choice, special_ids
        self._begin = time.perf_counter()

    def whole(self, completion: Completion) -> dict[str, Any]:
        told = self._line(
            completion.text, completion.thought, completion.tool_calls, completion.logprobs or ()
        )
        return {**told, **self._ending(completion)}

    async def events(self, steps: Steps) -> AsyncGenerator[Item, None]:
        """A call comes whole, since its arguments are an object. None when the request is accepted."""
        async with aclosing(steps):
            await anext(steps)
            yield None
            async for step in steps:
                if isinstance(step, Completion):
                    if step.tool_calls:
                        yield {**self._line(calls=step.tool_calls), "done": False}
                    yield {**self._line(), **self._ending(step)}
                elif step[0].text or step[0].thought or step[0].logprobs:
                    yield {**self._line(step[0].text, step[0].thought, (), step[0].logprobs), "done": False}

    def nothing(self, reason: str) -> dict[str, Any]:
        """That nothing was asked but that the model is there, or is not."""
        return {**self._line(), "done": True, "done_reason": reason}

    @abstractmethod
    def said(self, text: str, thought: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        """What is told of a text, a thought and calls."""

    def _line(
        self,
        text: str = "",
        thought: str = "",
        calls: Sequence[ToolCall] = (),
        logprobs: Sequence[TokenLogprob] = (),
    ) -> dict[str, Any]:
        said = self.said(text, thought, list(map(_call, calls)))
        more = {"logprobs": list(map(self._logprob, logprobs))} if logprobs else {}
        return {**self._head, "created_at": datetime.now(UTC).isoformat(), **said, **more}

    def _logprob(self, token: TokenLogprob) -> dict[str, Any]:
        """A token, and the likeliest beside it."""
        return {**self._token(token), "top_logprobs": list(map(self._token, token.top))}

    def _token(self, token: TokenLogprob) -> dict[str, Any]:
        return {
            "token": piece(token),
            "logprob": token.logprob,
            "bytes": text_bytes(token, self._special_ids),
        }

    def _ending(self, completion: Completion) -> dict[str, Any]:
        times = completion.timings.token_times
        return {
            "done": True,
            "done_reason": "length" if completion.finish_reason == "length" else "stop",
            "total_duration": nanoseconds(time.perf_counter() - self._begin),
            "prompt_eval_count": completion.usage.prompt_tokens,
            "prompt_eval_duration": nanoseconds(times[0]),
            "eval_count": completion.usage.completion_tokens,
            "eval_duration": nanoseconds(times[-1] - times[0]),
            **self._choice,
        }


class ChatLines(OllamaTold):
    """Messages."""

    def said(self, text: str, thought: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        more = {"thinking": thought, "tool_calls": calls}
        message = {"role": "assistant", "content": text, **{key: one for key, one in more.items() if one}}
        return {"message": message}


class TextLines(OllamaTold):
    """Pieces of a text, which calls nothing."""

    def said(self, text: str, thought: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
        return {"response": text, **({"thinking": thought} if thought else {})}


def nanoseconds(seconds: float) -> int:
    """A time as Ollama writes it."""
    return round(seconds * 1e9)


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "function": {"name": call.name, "arguments": arguments_of(call)}}
