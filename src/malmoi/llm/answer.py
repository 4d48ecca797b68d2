"""Ids back into text, as they come: `Answer` asks, a `Reader` reads each generation, `TextStream` hands it out."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial

from malmoi.core.errors import RequestError
from malmoi.engine import Candidate, Choice, Generation, Request
from malmoi.engine.engine import Engine
from malmoi.llm.completion import Completion, Timings, TokenLogprob, Usage
from malmoi.llm.stop import StopStrings
from malmoi.text.stream import DecodeStream
from malmoi.text.tokenizer import Tokenizer


class Answer:
    """One request, from its start in the engine to its text, or its several texts.

    `start`, then `advance` after steps of the engine until `is_finished`, and `stop` in any case. Or `pieces`,
    which does all of that and steps itself.

    Args:
        request: what is asked; checked here, so that a wrong one is refused before anything has started.
        engine: what runs it.
        tokenizer: whose ids they are.
        stop_strings: where the text ends.
        at_start: the answer is a text of its own, not the rest of one.

    Raises:
        RequestError: it could never be served.
    """

    def __init__(
        self,
        request: Request,
        engine: Engine,
        tokenizer: Tokenizer,
        *,
        stop_strings: Sequence[str],
        at_start: bool,
    ) -> None:
        engine.check(request)
        self._request, self._engine = request, engine
        self._read = partial(
            Reader, engine=engine, tokenizer=tokenizer, stop_strings=stop_strings, at_start=at_start
        )
        self._readers: list[Reader] = []

    @property
    def is_finished(self) -> bool:
        return bool(self._readers) and all(reader.is_finished for reader in self._readers)

    def start(self) -> None:
        """Hand the request to the engine."""
        generation = self._engine.queue(self._request)
        self._readers = [self._read(one) for one in (generation, *generation.siblings)]

    def stop(self) -> None:
        """Take it back, if it is still going on."""
        for reader in self._readers:
            reader.stop()

    def advance(self) -> None:
        """Read what was generated."""
        for reader in self._readers:
            reader.advance()

    def pieces(self) -> Generator[str, None, Completion]:
        """Yield the text as it becomes certain; return the completion. Starts at the first piece, stops if closed.

        For a request of one answer.
        """
        self.start()
        [reader] = self._readers
        try:
            while not reader.is_finished:
                if not reader.has_news:  # the steps of another answer may have brought some
                    self._engine.step()
                if piece := reader.advance():
                    yield piece
        finally:
            self.stop()
        return self.completion()

    def completion(self) -> Completion:
        """What was read, once `is_finished`. Raises RequestError if one ended because no token could be chosen."""
        first, *siblings = (reader.completion() for reader in self._readers)
        return replace(first, siblings=siblings)


class Reader:
    """One generation, read as it grows: its text up to a stop string, and its numbers.

    The arguments are those of `Answer`; `generation` is what the engine makes of the request.
    """

    def __init__(
        self,
        generation: Generation,
        *,
        engine: Engine,
        tokenizer: Tokenizer,
        stop_strings: Sequence[str],
        at_start: bool,
    ) -> None:
        self.is_finished = False
        self._generation, self._engine, self._tokenizer = generation, engine, tokenizer
        self._at_start = at_start
        self._stream = DecodeStream(tokenizer, at_start=at_start)
        self._stops = StopStrings(stop_strings)
        self._text: list[str] = []
        self._num_read = 0

    @property
    def has_news(self) -> bool:
        """Whether there are tokens that were not read."""
        return self._num_read < len(self._generation.choices)

    def stop(self) -> None:
        """End the generation, if it is still going on."""
        self._engine.abort(self._generation)

    def advance(self) -> str:
        """Read what was generated; return the text that became certain. At a stop string, ends the generation."""
        generation = self._generation
        pieces = []
        while self.has_news and not self._stops.is_found:
            pieces.append(self._stops.push(self._decode(generation.choices[self._num_read])))
            self._num_read += 1
        if generation.finish_reason is not None:
            pieces.append(self._stops.push(self._stream.finish()))
            pieces.append(self._stops.finish())
        if self._stops.is_found:
            self.stop()
        self.is_finished = generation.finish_reason is not None
        self._text += pieces
        return "".join(pieces)

    def completion(self) -> Completion:
        """What was read, once `is_finished`. Raises RequestError if it ended because no token could be chosen."""
        generation, num_tokens = self._generation, self._num_read
        if not self._stops.is_found:  # else it has come to its end before
            generation.raise_if_failed()
        is_cut = generation.finish_reason == "length" and not self._stops.is_found
        request, params = generation.request, generation.request.params
        return Completion(
            text="".join(self._text),
            tokens=generation.tokens[:num_tokens],
            finish_reason="length" if is_cut else "stop",
            logprobs=None
            if params.logprobs is False
            else [
                self._logprob(choice, at_start=self._at_start and index == 0)
                for index, choice in enumerate(generation.choices[:num_tokens])
            ],
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

    def _decode(self, choice: Choice) -> str:
        is_last = self._num_read == len(self._generation.choices) - 1
        is_stop_token = is_last and self._generation.finish_reason == "stop"
        is_text = choice.token < self._tokenizer.vocab_size  # a model's vocabulary is often rounded up
        return self._stream.push(choice.token) if is_text and not is_stop_token else ""

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


class TextStream(Iterator[str]):
    """An answer on its way: an iterator of text pieces. Closing it, or dropping it, ends the request.

    A piece is never empty, never ends inside a syllable, and never holds what could still become a stop string.
    """

    def __init__(self, pieces: Generator[str, None, Completion]) -> None:
        self._pieces = pieces
        self._completion: Completion | None = None

    def __next__(self) -> str:
        try:
            return next(self._pieces)
        except StopIteration as end:
            if isinstance(end.value, Completion):
                self._completion = end.value
            raise StopIteration from None

    def close(self) -> None:
        """Stop generating and free what the request holds."""
        self._pieces.close()

    @property
    def completion(self) -> Completion:
        """The whole answer, once the last piece was taken. Raises RequestError before."""
        if self._completion is None:
            raise RequestError("this stream has not come to its end. Take all of its pieces first.")
        return self._completion
