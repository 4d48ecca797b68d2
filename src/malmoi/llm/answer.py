"""Ids back into text, as they come: an `Answer` reads all that was generated for a request.

    engine -> Progress -> ANSWER -> a READER for each of its texts -> DecodeStream -> StopStrings -> pieces, Completion

It waits for nothing: who waits, and how, is the business of `stream.py`, by stepping an engine, and of `async_llm.py`,
in an event loop. Read next: `stop.py`; `malmoi/text/stream.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from malmoi.engine import Candidate, Choice, Generation
from malmoi.engine.progress import Progress
from malmoi.engine.request import FinishReason
from malmoi.llm.completion import CallDelta, Completion, FinishedBy, Timings, TokenLogprob, Usage
from malmoi.llm.request_builder import TextRequest
from malmoi.llm.stop import StopStrings
from malmoi.text.stream import DecodeStream
from malmoi.text.tokenizer import Tokenizer


class Delta(NamedTuple):
    """What a step has added to one text of an answer.

    Attributes:
        text: what became certain, often nothing.
        thought: the same of what the model thinks before it answers.
        calls: what became certain of its calls.
        logprobs: those of the tokens that were read, if `SamplingParams.logprobs` asked for them.
        finish_reason: why the text has ended; None if it goes on.
    """

    text: str
    logprobs: Sequence[TokenLogprob] = ()
    finish_reason: FinishedBy | None = None
    thought: str = ""
    calls: Sequence[CallDelta] = ()


class Answer:
    """The text of a request, or its several texts, read as they grow.

    Args:
        asked: what is answered.
        tokenizer: whose ids they are.
        abort: ends a generation whose text has ended before it.
    """

    def __init__(
        self, asked: TextRequest, tokenizer: Tokenizer, *, abort: Callable[[Generation], None]
    ) -> None:
        self._readers = [Reader(asked, tokenizer, abort=abort) for _ in range(asked.request.params.n)]

    @property
    def is_finished(self) -> bool:
        """Whether all of its texts have ended."""
        return all(reader.is_finished for reader in self._readers)

    def read(self, news: Sequence[Progress]) -> list[Delta]:
        """Take what came (`Follower.news`, one for each text); return what that adds to each text."""
        return [reader.read(one) for reader, one in zip(self._readers, news, strict=True)]

    def completion(self) -> Completion:
        """What was read, once `is_finished`. Raises RequestError if one ended because no token could be chosen."""
        first, *siblings = (reader.completion() for reader in self._readers)
        return replace(first, siblings=siblings)


class Reader:
    """One generation, read as it grows: its text up to a stop string, and its numbers. Arguments as for `Answer`."""

    def __init__(
        self, asked: TextRequest, tokenizer: Tokenizer, *, abort: Callable[[Generation], None]
    ) -> None:
        self.is_finished = False
        self._tokenizer, self._abort, self._at_start = tokenizer, abort, asked.at_start
        self._stream = DecodeStream(tokenizer, at_start=asked.at_start)
        self._stops = StopStrings(asked.stop_strings)
        self._text: list[str] = []
        self._num_read = 0
        self._generation: Generation | None = None
        self._finish_reason: FinishReason | None = None

    def read(self, news: Progress) -> Delta:
        """Take what came; return what became certain. At a stop string, ends the generation."""
        if self.is_finished:  # the others have news
            return Delta("")
        num_before = self._num_read
        self._generation, choices, self._finish_reason = news
        pieces = []
        for number, choice in enumerate(choices, start=1):
            is_stop_token = number == len(choices) and self._finish_reason == "stop"
            pieces.append(self._stops.push("" if is_stop_token else self._decode(choice)))
            self._num_read += 1
            if self._stops.is_found:
                break
        if self._finish_reason is not None:
            pieces.append(self._stops.push(self._stream.finish()))
            pieces.append(self._stops.finish())
        if self._stops.is_found:
            self._abort(self._generation)
        self.is_finished = self._stops.is_found or self._finish_reason is not None
        self._text += pieces
        new = range(num_before, self._num_read)
        return Delta("".join(pieces), self._logprobs(new), self._ended_by if self.is_finished else None)

    def completion(self) -> Completion:
        """What was read, once `is_finished`. Raises RequestError if it ended because no token could be chosen."""
        generation, num_tokens = self._generation, self._num_read
        assert generation is not None, "it has come to its end"
        if not self._stops.is_found:  # else it has come to its end before
            generation.raise_if_failed()
        request, params = generation.request, generation.request.params
        return Completion(
            text="".join(self._text),
            tokens=generation.tokens[:num_tokens],
            finish_reason=self._ended_by,
            logprobs=None if params.logprobs is False else self._logprobs(range(num_tokens)),
            prompt_logprobs=None
            if params.prompt_logprobs is False
            else [self._logprob(choice, at_start=False) for choice in generation.prompt_choices],
            usage=Usage(
                prompt_tokens=len(request.source or ()) + len(request.tokens),
                completion_tokens=num_tokens,
                cached_tokens=generation.num_cached,
            ),
            timings=Timings(token_times=tuple(generation.token_times[:num_tokens])),
        )

    @property
    def _ended_by(self) -> FinishedBy:
        return "length" if self._finish_reason == "length" and not self._stops.is_found else "stop"

    def _logprobs(self, places: range) -> list[TokenLogprob]:
        """Of the tokens that were generated, those at `places`; none if nobody asked for them."""
        generation = self._generation
        if generation is None or generation.request.params.logprobs is False:
            return []
        return [
            self._logprob(generation.choices[place], at_start=self._at_start and place == 0)
            for place in places
        ]

    def _decode(self, choice: Choice) -> str:
        is_text = choice.token < self._tokenizer.vocab_size  # a model's vocabulary is often rounded up
        return self._stream.push(choice.token) if is_text else ""

    def _logprob(self, choice: Choice, *, at_start: bool) -> TokenLogprob:
        def named(candidate: Candidate, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
            is_text = candidate.token < self._tokenizer.vocab_size
            return TokenLogprob(
                token=candidate.token,
                bytes=self._tokenizer.token_bytes(candidate.token, at_start=at_start) if is_text else b"",
                logprob=candidate.logprob,
                probability=candidate.probability,
                top=top,
            )

        assert choice.chosen is not None, "the request asked for it"
        return named(choice.chosen, tuple(map(named, choice.top)))
