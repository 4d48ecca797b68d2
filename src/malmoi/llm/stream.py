"""Waiting for an answer by stepping the engine: `Pending`, and the streams that hand it out piece by piece.

Read first: `answer.py`, which reads what the steps bring. `async_llm.py` waits in an event loop instead.
"""

from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Generic, TypeVar

from malmoi.core.errors import RequestError
from malmoi.engine import Generation
from malmoi.engine.engine import Engine
from malmoi.engine.progress import Follower
from malmoi.llm.answer import Answer, Delta
from malmoi.llm.completion import Completion
from malmoi.llm.request_builder import TextRequest
from malmoi.text.tokenizer import Tokenizer

T = TypeVar("T")


class Pending:
    """One request, from its start in the engine to its text, or its several texts.

    `start`, then `advance` after steps of the engine until `is_finished`, and `stop` in any case. Or `deltas`,
    which does all of that and steps itself. Raises RequestError if it could never be served, before it starts.
    """

    def __init__(self, asked: TextRequest, engine: Engine, tokenizer: Tokenizer) -> None:
        engine.check(asked.request)
        self._request, self._engine = asked.request, engine
        self._answer = Answer(asked, tokenizer, abort=engine.abort)
        self._follower = Follower()
        self._generation: Generation | None = None

    @property
    def is_finished(self) -> bool:
        return self._answer.is_finished

    def start(self) -> None:
        """Hand the request to the engine."""
        self._generation = self._engine.queue(self._request)

    def stop(self) -> None:
        """Take it back, if it has started and is still going on."""
        if self._generation is not None:
            for one in (self._generation, *self._generation.siblings):
                self._engine.abort(one)

    def advance(self) -> Delta | None:
        """Read what was generated, and return what it adds to the first text; None if there was nothing."""
        assert self._generation is not None, "it has started"
        news = self._follower.news(self._generation)
        return self._answer.read(news)[0] if news else None

    def deltas(self) -> Generator[Delta, None, Completion]:
        """Yield what each step adds; return the completion. Starts at the first delta, stops if closed."""
        self.start()
        try:
            while not self.is_finished:
                delta = self.advance()
                if delta is None:  # else the steps of another answer have brought some
                    self._engine.step()
                else:
                    yield delta
        finally:
            self.stop()
        return self.completion()

    def pieces(self) -> Generator[str, None, Completion]:
        """Yield the text as it becomes certain; return the completion. As `deltas` else."""
        with closing(self.deltas()) as deltas:
            while True:
                try:
                    delta = next(deltas)
                except StopIteration as end:
                    completion: Completion = end.value
                    return completion
                if delta.text:
                    yield delta.text

    def completion(self) -> Completion:
        """What was read, once `is_finished`. Raises RequestError if one ended because no token could be chosen."""
        return self._answer.completion()


class AnswerStream(Iterator[T], Generic[T]):
    """An answer on its way: an iterator of what comes. Closing it, or dropping it, ends the request."""

    def __init__(self, items: Generator[T, None, Completion]) -> None:
        self._items = items
        self._completion: Completion | None = None

    def __next__(self) -> T:
        try:
            return next(self._items)
        except StopIteration as end:
            if isinstance(end.value, Completion):
                self._completion = end.value
            raise StopIteration from None

    def close(self) -> None:
        """Stop generating and free what the request holds."""
        self._items.close()

    @property
    def completion(self) -> Completion:
        """The whole answer, once the last item was taken. Raises RequestError before."""
        return require_completion(self._completion)


class TextStream(AnswerStream[str]):
    """Its text in pieces: never empty, never ending inside a syllable, or with what may still become a stop string."""


class DeltaStream(AnswerStream[Delta]):
    """What each step adds: text, and thought, calls and log-probabilities beside it."""


def require_completion(completion: Completion | None) -> Completion:
    """That of a stream. Raises RequestError if it has none yet."""
    if completion is None:
        raise RequestError("this stream has not come to its end. Take all of its pieces first.")
    return completion
