"""The bytes of an answer -> what it thinks, says and calls, as soon as each is certain.

    bytes -> ThoughtReader -> thought -> ByteStream -> text that can be shown
                           -> answer  -> ByteStream -> CallReader -> calls
                                                                  -> StopStrings -> text that can be shown

So stop strings look at what is said: not at a thought, and not at arguments. Place in the flow: `answer.py` spells
tokens and pushes them, in one piece each. Read next: `reasoning.py`, `tools/reader.py`, `stop.py`.
"""

from typing import NamedTuple

from malmoi.llm.completion import CallDelta, ToolCall
from malmoi.llm.reasoning import ThoughtReader
from malmoi.llm.stop import StopStrings
from malmoi.llm.tools.reader import CallReader, Said
from malmoi.text.stream import ByteStream


class Piece(NamedTuple):
    """What has become certain."""

    text: str = ""
    thought: str = ""
    calls: tuple[CallDelta, ...] = ()


class MessageReader:
    """One message, read as it grows.

    Args:
        thoughts: tells what it thinks from what it says; is mutated.
        calls: tells what it calls from what it says, and is mutated; None: it calls nothing.
        stops: where it ends; is mutated.
        is_composing: its tokenizer takes syllables apart.

    Attributes:
        calls: what was called so far; of the last one maybe only a beginning.
        num_whole: how many of `calls` are complete.

    >>> from malmoi.llm.reasoning import FORMATS
    >>> reader = MessageReader(ThoughtReader(FORMATS[0]), None, StopStrings(["끝"]), is_composing=False)
    >>> for said in ("<think>끝?", "</think>", "네, 끝"):
    ...     reader.push(said.encode())
    Piece(text='', thought='끝?', calls=())
    Piece(text='', thought='', calls=())
    Piece(text='네, ', thought='', calls=())
    >>> reader.is_over, reader.stop
    (True, '끝')
    """

    def __init__(
        self, thoughts: ThoughtReader, calls: CallReader | None, stops: StopStrings, *, is_composing: bool
    ) -> None:
        self.thoughts, self._reader, self._stops = thoughts, calls, stops
        self._thought, self._answer = (ByteStream(is_composing=is_composing) for _ in range(2))
        self.calls: list[ToolCall] = []

    @property
    def is_over(self) -> bool:
        """It has ended, whatever may follow: at a stop string, or with the only call that it may have."""
        return self._stops.is_found or (self._reader is not None and self._reader.is_over)

    @property
    def stop(self) -> str | None:
        """The stop string that has ended it."""
        return self._stops.found

    @property
    def num_whole(self) -> int:
        return 0 if self._reader is None else self._reader.num_calls

    def push(self, piece: bytes) -> Piece:
        """Take the bytes of the next token."""
        was_thinking = self.thoughts.place == "thought"
        thought, answer = self.thoughts.push(piece)
        shown = self._thought.push(thought)
        if was_thinking and self.thoughts.place != "thought":
            # A bound on thoughts may have cut a character in two, and half of one is nothing to show.
            shown += self._thought.finish().removesuffix("\ufffd")
        return self._said(self._call_reader_push(self._answer.push(answer)), shown)

    def finish(self) -> Piece:
        """What was held back, now that nothing follows."""
        thought, answer = self.thoughts.finish()
        shown = self._thought.push(thought) + self._thought.finish()
        said = self._call_reader_push(self._answer.push(answer) + self._answer.finish())
        last = self._reader.finish() if self._reader is not None else Said()
        piece = self._said(Said(said.text + last.text, (*said.calls, *last.calls)), shown)
        return piece._replace(text=piece.text + self._stops.finish())

    def _call_reader_push(self, text: str) -> Said:
        return Said(text) if self._reader is None else self._reader.push(text)

    def _said(self, said: Said, thought: str) -> Piece:
        text = self._stops.push(said.text)
        if said.calls:  # behind one, what might have begun a stop string is text
            text += self._stops.finish()
        calls = () if self._stops.is_found else said.calls  # they stand behind the text
        for call in calls:
            if call.place == len(self.calls):
                self.calls.append(ToolCall("", "", ""))
            told = self.calls[call.place]
            self.calls[call.place] = ToolCall(
                told.id + call.id, told.name + call.name, told.arguments + call.arguments
            )
        return Piece(text, thought, calls)
