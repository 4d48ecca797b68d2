"""Ids back into text, as they come: an `Answer` reads all that was generated for a request.

    engine -> Progress -> ANSWER -> a READER for each of its texts -> Spelling -> MessageReader -> deltas, Completion

It waits for nothing: who waits, and how, is the business of `stream.py`, by stepping an engine, and of `async_llm.py`,
in an event loop. Read next: `message.py`; `malmoi/text/stream.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from malmoi.engine import Candidate, Choice, Generation
from malmoi.engine.progress import Progress
from malmoi.engine.request import FinishReason
from malmoi.llm.completion import CallDelta, Completion, FinishedBy, Timings, TokenLogprob, Usage
from malmoi.llm.request_builder import TextRequest
from malmoi.text.stream import Spelling
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
    """One generation, read as it grows: what it thinks, says and calls, and its numbers. Arguments as for `Answer`."""

    def __init__(
        self, asked: TextRequest, tokenizer: Tokenizer, *, abort: Callable[[Generation], None]
    ) -> None:
        self._tokenizer, self._abort, self._budget = tokenizer, abort, asked.expected.thought_budget
        self._spelling = Spelling(tokenizer, shown=asked.expected.shown, at_start=asked.at_start)
        self._message = asked.reader(is_composing=tokenizer.is_composing)
        for token in asked.beginning:  # it was told already, but for what it has held back
            self._message.push(self._spell(token))
        self._first = None if asked.at_start and not asked.beginning else -1
        self._num_thought_before = self._message.thoughts.num_tokens + self._message.thoughts.num_open
        self._num_calls_before = self._message.num_whole
        self._text: list[str] = []
        self._thought: list[str] = []
        self._num_read = 0
        self._generation: Generation | None = None
        self._finish_reason: FinishReason | None = None
        self.is_finished = False

    def read(self, news: Progress) -> Delta:
        """Take what came; return what became certain. Where the text ends before its generation, ends that."""
        if self.is_finished:  # the others have news
            return Delta("")
        num_before = self._num_read
        self._generation, choices, self._finish_reason = news
        pieces = []
        for number, choice in enumerate(choices, start=1):
            if self._message.is_over:
                break
            if number < len(choices) or self._finish_reason != "stop":
                spelled = self._spell(choice.token)
                if self._first is None and spelled:
                    self._first = self._num_read
                pieces.append(self._message.push(spelled))
            self._num_read += 1
        if self._finish_reason is not None:
            pieces.append(self._message.finish())
        if self._message.is_over:
            self._abort(self._generation)
        self.is_finished = self._message.is_over or self._finish_reason is not None
        text, thought = "".join(piece.text for piece in pieces), "".join(piece.thought for piece in pieces)
        self._text.append(text)
        self._thought.append(thought)
        return Delta(
            text,
            self._logprobs(range(num_before, self._num_read)),
            self._ended_by if self.is_finished else None,
            thought,
            [call for piece in pieces for call in piece.calls],
        )

    def completion(self) -> Completion:
        """What was read, once `is_finished`. Raises RequestError if it ended because no token could be chosen."""
        generation, num_tokens = self._generation, self._num_read
        assert generation is not None, "it has come to its end"
        if not self._message.is_over:  # else it has come to its end before
            generation.raise_if_failed()
        request, params = generation.request, generation.request.params
        return Completion(
            text="".join(self._text),
            thought="".join(self._thought),
            tool_calls=tuple(self._message.calls[self._num_calls_before :]),
            tokens=generation.tokens[:num_tokens],
            finish_reason=self._ended_by,
            stop=self._message.stop,
            logprobs=None if params.logprobs is False else self._logprobs(range(num_tokens)),
            prompt_logprobs=None
            if params.prompt_logprobs is False
            else [self._logprob(choice, at_start=False) for choice in generation.prompt_choices],
            usage=Usage(
                prompt_tokens=len(request.source or ()) + len(request.tokens),
                completion_tokens=num_tokens,
                cached_tokens=generation.num_cached,
                thought_tokens=max(0, self._num_thought - self._num_thought_before),
            ),
            timings=Timings(token_times=tuple(generation.token_times[:num_tokens])),
        )

    @property
    def _num_thought(self) -> int:
        """How many tokens were thought; what was forced to end that was not."""
        num_tokens = self._message.thoughts.num_tokens
        return num_tokens if self._budget is None else min(num_tokens, self._budget)

    @property
    def _ended_by(self) -> FinishedBy:
        if self._finish_reason == "length" and not self._message.is_over:
            return "length"
        return "tool_calls" if self._message.calls and self._message.stop is None else "stop"

    def _logprobs(self, places: range) -> list[TokenLogprob]:
        """Of the tokens that were generated, those at `places`; none if nobody asked for them."""
        generation = self._generation
        if generation is None or generation.request.params.logprobs is False:
            return []
        return [self._logprob(generation.choices[place], at_start=place == self._first) for place in places]

    def _spell(self, token: int) -> bytes:
        is_text = token < self._tokenizer.vocab_size  # a model's vocabulary is often rounded up
        return self._spelling.push(token) if is_text else b""

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
