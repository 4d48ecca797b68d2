"""Waiting for an answer by stepping the engine: `Pending`, and `TextStream`, which hands it out piece by piece.

Read first: `answer.py`, which reads what the steps bring. `async_llm.py` waits in an event loop instead.
"""

from collections.abc import Generator, Iterator

from malmoi.core.errors import RequestError
from malmoi.engine import Generation
from malmoi.engine.engine import Engine
from malmoi.engine.progress import Follower
from malmoi.llm.answer import Answer
from malmoi.llm.completion import Completion
from malmoi.llm.request_builder import TextRequest
from malmoi.text.tokenizer import Tokenizer


class Pending:
    """One request, from its start in the engine to its text, or its several texts.

    `start`, then `advance` after steps of the engine until `is_finished`, and `stop` in any case. Or `pieces`,
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

    def advance(self) -> str | None:
        """Read what was generated, and return what it adds to the first text; None if there was nothing."""
        assert self._generation is not None, "it has started"
        news = self._follower.news(self._generation)
        return self._answer.read(news)[0].text if news else None

    def pieces(self) -> Generator[str, None, Completion]:
        """Yield the text as it becomes certain; return the completion. Starts at the first piece, stops if closed."""
        self.start()
        try:
            while not self.is_finished:
                piece = self.advance()
                if piece is None:  # else the steps of another answer have brought some
                    self._engine.step()
                elif piece:
                    yield piece
        finally:
            self.stop()
        return self.completion()

    def completion(self) -> Completion:
        """What was read, once `is_finished`. Raises RequestError if one ended because no token could be chosen."""
        return self._answer.completion()


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
        return require_completion(self._completion)


def require_completion(completion: Completion | None) -> Completion:
    """That of a stream. Raises RequestError if it has none yet."""
    if completion is None:
        raise RequestError("this stream has not come to its end. Take all of its pieces first.")
    return completion
