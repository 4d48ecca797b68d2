"""A model that says what the test wants, so that the faces can be tested without weights."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import pytest

from malmoi.engine import Engine, SamplingParams
from malmoi.llm import (
    LLM,
    ChatPrompt,
    Completion,
    Delta,
    DeltaStream,
    TextStream,
    Timings,
    TokenLogprob,
    Usage,
)
from malmoi.media.sources import MediaSource
from malmoi.testing.models import tiny_llama


class ParrotLLM(LLM):
    """Answers the n-th call with the n-th of `answers`, a token a piece; an exception there is raised."""

    def __init__(self, answers: Sequence[Sequence[str] | Exception]) -> None:
        self.answers = list(answers)
        self.thoughts: list[str] = []
        self.asked: list[ChatPrompt] = []
        self.heard: list[tuple[object, SamplingParams]] = []
        self.seen: list[tuple[Sequence[MediaSource], Sequence[MediaSource]]] = []
        self.default_params = SamplingParams(top_k=7)
        self.model = tiny_llama()
        self.engine = Engine(self.model)

    def stream(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        params: SamplingParams | None = None,
        *,
        images: Sequence[MediaSource] = (),
        audio: Sequence[MediaSource] = (),
    ) -> TextStream:
        params = params or self.default_params
        self.heard.append((prompt, params))
        self.seen.append((images, audio))
        answer = self.answers[len(self.heard) - 1]
        if isinstance(answer, Exception):
            raise answer
        return TextStream(self._say(answer, params))

    def deltas(self, prompt: ChatPrompt, params: SamplingParams | None = None) -> DeltaStream:
        self.asked.append(prompt)
        stream = self.stream(prompt.messages, params)

        def said() -> Generator[Delta, None, Completion]:
            yield from (Delta("", thought=thought) for thought in self.thoughts)
            for piece in stream:
                yield Delta(piece)
            return stream.completion

        return DeltaStream(said())

    def _say(self, whole: Sequence[str], params: SamplingParams) -> Generator[str, None, Completion]:
        answer = whole[: params.max_tokens]
        yield from answer
        logprobs = [
            TokenLogprob(
                token=number,
                bytes=piece.encode(),
                logprob=-1.0,
                probability=0.5,
                top=(
                    TokenLogprob(token=number, bytes=piece.encode(), logprob=-1.0, probability=0.5),
                    TokenLogprob(token=99, bytes=b"\xea\xb0", logprob=-2.0, probability=0.0),
                ),
            )
            for number, piece in enumerate(answer)
        ]
        return Completion(
            text="".join(answer),
            tokens=list(range(len(answer))),
            finish_reason="stop" if answer == whole else "length",
            logprobs=None if params.logprobs is False else logprobs,
            usage=Usage(prompt_tokens=3, completion_tokens=len(answer)),
            timings=Timings(token_times=tuple(0.25 * (number + 1) for number in range(len(answer)))),
        )


@pytest.fixture
def parrot(monkeypatch: pytest.MonkeyPatch) -> ParrotLLM:
    """What `malmoi.load` returns in this test, whatever it is asked for."""
    llm = ParrotLLM([["안녕", "하세요."], ["네, ", "좋아요."], ["끝."]])
    monkeypatch.setattr("malmoi.llm.load", lambda _model, **_options: llm)
    return llm
