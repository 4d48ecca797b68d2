"""What the events of another machine say, as steps of an answer: `Told`.

    data of an event -> TOLD.read -> Deltas;  at the end TOLD.completion

Place in the flow: `upstream.py` reads each event with one of these. Read next: `upstream.py`.
"""

import codecs
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from malmoi.llm import Completion, TokenLogprob
from malmoi.llm.answer import Delta
from malmoi.llm.completion import CallDelta, FinishedBy, Timings, ToolCall, Usage
from malmoi.server.catalogue.upstream.events import BrokenAnswer, WithheldAnswer
from malmoi.server.catalogue.upstream.likelihoods import read_likelihoods

DONE = "[DONE]"

_ENDINGS: Mapping[str, FinishedBy] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}


class Told:
    """An answer of `num_texts` texts, read as it comes."""

    def __init__(self, num_texts: int, *, has_logprobs: bool) -> None:
        self._texts = [_Text(has_logprobs) for _ in range(num_texts)]
        self._usage: Mapping[str, Any] = {}

    def read(self, data: str, *, seconds: float) -> list[Delta] | None:
        """What an event adds to each text, `seconds` after the request; None for nothing.

        Raises BrokenAnswer for an event that is none of OpenAI's, or says that something went wrong.
        """
        event = _object(data)
        if (error := event.get("error")) is not None:
            raise BrokenAnswer(f"ends with an error: {_message(error)}")
        if isinstance(usage := event.get("usage"), Mapping):
            self._usage = usage
        deltas = [Delta("")] * len(self._texts)
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            index = choice.get("index", 0) if isinstance(choice, Mapping) else None
            if type(index) is not int or not 0 <= index < len(deltas):
                raise BrokenAnswer(f"has the choice {index!r} of {len(deltas)}")
            deltas[index] = self._texts[index].read(choice, seconds)
        return deltas if any(map(_adds, deltas)) else None

    @property
    def has_usage(self) -> bool:
        """Whether it was said how many tokens there were."""
        return bool(self._usage)

    def completion(self, *, seconds: float) -> Completion:
        """The whole answer. Raises BrokenAnswer if it has not come to its end."""
        first, *siblings = (text.completion(seconds) for text in self._texts)
        num_new = _count(self._usage, "completion_tokens")
        usage = Usage(
            prompt_tokens=_count(self._usage, "prompt_tokens"),
            completion_tokens=num_new,
            cached_tokens=_count(self._usage.get("prompt_tokens_details"), "cached_tokens"),
            thought_tokens=_count(self._usage.get("completion_tokens_details"), "reasoning_tokens"),
        )
        return replace(first, siblings=siblings, usage=usage)


class _Text:
    """One of the texts: pieces, and at last why it ended."""

    def __init__(self, has_logprobs: bool) -> None:
        self._has_logprobs = has_logprobs
        self._text, self._thought = _Pieces(), _Pieces()
        self._calls: list[_Call] = []
        self._logprobs: list[TokenLogprob] = []
        self._times: list[float] = []
        self._finish_reason: FinishedBy | None = None
        self._stop: str | None = None

    def read(self, choice: Mapping[str, Any], seconds: float) -> Delta:
        said = choice.get("delta")
        if not isinstance(said, Mapping):  # of a text, not of a chat
            said = {"content": choice.get("text")}
        thought = said.get("reasoning_content") or said.get("reasoning")
        reason = choice.get("finish_reason") or None
        if reason is not None:
            if not isinstance(reason, str):
                raise BrokenAnswer(f"was ended because of {reason!r}")
            if reason not in _ENDINGS:  # content_filter, abort ...
                raise WithheldAnswer(f"was ended because of {reason!r}: ask otherwise, or another model")
            self._finish_reason = _ENDINGS[reason]
            if isinstance(stop := choice.get("stop_reason"), str):
                self._stop = stop
        logprobs = read_likelihoods(choice.get("logprobs")) if self._has_logprobs else []
        self._logprobs += logprobs
        delta = Delta(
            text=self._text.push(said.get("content"), is_last=reason is not None),
            logprobs=logprobs,
            finish_reason=None if reason is None else self._finish_reason,
            thought=self._thought.push(thought, is_last=reason is not None),
            calls=self._read_calls(said.get("tool_calls")),
        )
        if delta.text or delta.thought or delta.calls:
            self._times.append(seconds)
        return delta

    def completion(self, seconds: float) -> Completion:
        if self._finish_reason is None:
            raise BrokenAnswer("was cut off before its end")
        return Completion(
            text=self._text.whole,
            tokens=[],
            finish_reason=self._finish_reason,
            logprobs=self._logprobs if self._has_logprobs else None,
            thought=self._thought.whole,
            tool_calls=[call.whole for call in self._calls],
            stop=self._stop,
            usage=Usage(prompt_tokens=0, completion_tokens=0),
            timings=Timings(token_times=tuple(self._times or [seconds])),
        )

    def _read_calls(self, said: Any) -> Sequence[CallDelta]:
        deltas: list[CallDelta] = []
        for call in said if isinstance(said, list) else ():
            if not isinstance(call, Mapping) or not isinstance(function := call.get("function"), Mapping):
                raise BrokenAnswer("has a call of no function")
            place = call.get("index")
            if type(place) is not int:  # some leave it out, and send each call whole
                place = len(self._calls)
            if place == len(self._calls):
                name = function.get("name")
                if not isinstance(name, str) or not name:
                    raise BrokenAnswer("has a call without a name")
                id_ = call.get("id")
                self._calls.append(
                    _Call(id_ if isinstance(id_, str) and id_ else f"call_{uuid4().hex}", name)
                )
                deltas.append(CallDelta(place, self._calls[place].id, name))
            if not 0 <= place < len(self._calls):
                raise BrokenAnswer(f"has the call {place}, and only {len(self._calls)} before it")
            if piece := self._calls[place].arguments.push(function.get("arguments")):
                deltas.append(CallDelta(place, arguments=piece))
        return deltas


class _Call:
    def __init__(self, id: str, name: str) -> None:
        self.id, self.name = id, name
        self.arguments = _Pieces()

    @property
    def whole(self) -> ToolCall:
        return ToolCall(self.id, self.name, self.arguments.whole or "{}")


class _Pieces:
    r"""Pieces of a text. Half of a character, as JSON can have it, waits for the other half.

    >>> pieces = _Pieces()
    >>> pieces.push("가\ud83d"), pieces.push("\ude00"), pieces.whole
    ('가', '😀', '가😀')
    """

    def __init__(self) -> None:
        self._halves = codecs.getincrementaldecoder("utf-16-le")("replace")
        self._pieces: list[str] = []

    def push(self, text: Any, *, is_last: bool = False) -> str:
        if text is not None and not isinstance(text, str):
            raise BrokenAnswer(f"has {text!r} where a text should be")
        piece = self._halves.decode((text or "").encode("utf-16-le", "surrogatepass"), is_last)
        self._pieces.append(piece)
        return piece

    @property
    def whole(self) -> str:
        return "".join(self._pieces)


def _adds(delta: Delta) -> bool:
    return any((delta.text, delta.thought, delta.calls, delta.logprobs, delta.finish_reason))


def _object(data: str) -> Mapping[str, Any]:
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict):
        raise BrokenAnswer(f"has an event that is no JSON object: {data!r}")
    return event


def _message(error: Any) -> str:
    said = error.get("message") if isinstance(error, Mapping) else error
    return str(said)


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, Mapping) else None
    return value if type(value) is int and value > 0 else 0
