"""Calls in a text, read while it comes: what is none of them comes out as text, to the letter.

    text -> CALL READER -> text | CallDelta: id and name, then arguments in pieces

Place in the flow: `message.py` pushes what is answered. Read next: `calling.py`, which forces what is read here.
"""

import secrets
from collections.abc import Mapping
from typing import Literal, NamedTuple

from malmoi.llm.completion import CallDelta
from malmoi.llm.stop import num_begun
from malmoi.llm.tools.arguments import Schema, arguments_of
from malmoi.llm.tools.formats import CallFormat
from malmoi.llm.tools.pattern import Incomplete, Mismatch, follow


class Said(NamedTuple):
    """What has become certain: text, and what is added to calls."""

    text: str = ""
    calls: tuple[CallDelta, ...] = ()


class CallReader:
    r"""Reads the calls of one message.

    What begins like a call and is none (broken JSON, a name that no tool has, a text that ends in it) is text. So a
    call is told when it is whole; if a grammar makes sure that it will be (`is_certain`), as soon as its name is
    known, and its arguments as they come. White space around calls is of the format, and dropped.

    Laws: what comes out does not depend on how the text is cut; text and calls together are all that was pushed.

    Args:
        calls: how they are written.
        tools: the name of each that may be called, and the schema of its arguments.
        is_certain: what begins as a call is one, and is cut off at most.
        is_parallel: there may be several.

    Attributes:
        num_calls: how many are whole.
        is_over: the message has ended with its only call.

    >>> from malmoi.llm.tools.formats import hermes
    >>> reader = CallReader(hermes(), {"f": {}}, is_certain=True)
    >>> [reader.push(piece).text for piece in ("네.\n<too", 'l_call>\n{"name": "f", "arguments": {"a"')]
    ['네.', '']
    >>> [call.arguments for call in reader.push(': 1}}\n</tool_call>').calls]
    [': 1}']
    """

    def __init__(
        self,
        calls: CallFormat,
        tools: Mapping[str, Schema],
        *,
        is_certain: bool,
        is_parallel: bool = True,
    ) -> None:
        self._format, self._tools = calls, tools
        self._is_certain, self._is_parallel = is_certain, is_parallel
        self._state: Literal["text", "head", "arguments", "tail", "next"] = "text"
        self._held = ""  # not looked at to the end
        self._raw = ""  # what was taken of a call that may still be none
        self._num_lead = 0  # how much of it is text for sure if it is none
        self._arguments: list[str] = []
        self._argument_reader = calls.arguments.reader({})
        self._untold: list[CallDelta] = []
        self.num_calls = 0
        self._place = 0  # of the call that is read
        self._is_in_list = self._is_behind_call = self._has_text = False
        self.is_over = False

    def push(self, piece: str) -> Said:
        """Take the next piece; return what has become certain."""
        self._held += piece
        text: list[str] = []
        calls: list[CallDelta] = []
        while not self.is_over:
            try:
                said = self._step()
            except Incomplete:
                break
            except Mismatch:
                said = self._give_up()
            text.append(said.text)
            calls += said.calls
        return Said("".join(text), tuple(calls))

    def finish(self) -> Said:
        """What was held back, now that nothing follows."""
        if self.is_over:
            return Said()
        state, rest = self._state, self._raw + self._held
        told, self._untold, self._raw, self._held = tuple(self._untold), [], "", ""
        if state == "tail" and self._is_object():  # the model has left out what stands behind it
            return Said("", told)
        if state == "arguments" and self._is_certain:
            return Said("", told)
        return Said(rest.lstrip() if self._is_behind_call else rest)

    def _step(self) -> Said:
        """Go on in what is held. Raises Incomplete if nothing can be said yet, Mismatch if it is no call."""
        steps = {
            "text": self._read_text,
            "head": self._read_head,
            "arguments": self._read_arguments,
            "tail": self._read_tail,
            "next": self._read_next,
        }
        return steps[self._state]()

    def _read_text(self) -> Said:
        if self._is_behind_call:
            self._held = self._held.lstrip()
        end, is_found = self._find_trigger()
        text, self._held = self._held[:end], self._held[end:]
        self._has_text |= bool(text)
        self._is_behind_call &= not text
        if is_found:
            trigger = self._format.trigger
            self._num_lead = self._held.index(trigger) + len(trigger)
            self._take(self._num_lead)
            self._state = "head"
        elif not text:
            raise Incomplete
        return Said(text)

    def _find_trigger(self) -> tuple[int, bool]:
        """Up to where what is held is text for sure, and whether a trigger follows, maybe behind white space."""
        held, trigger = self._held, self._format.trigger
        if self._format.only_at_start:
            if self._has_text:
                return len(held), False
            begun = held.lstrip()
            is_found = begun.startswith(trigger)
            return (0 if is_found or trigger.startswith(begun) else len(held)), is_found
        at = held.find(trigger)
        end = len(held) - num_begun(held, trigger) if at < 0 else at
        return len(held[:end].rstrip()), at >= 0

    def _read_head(self) -> Said:
        pattern = (self._format.next_head if self._is_in_list else None) or self._format.head
        found = follow(pattern, self._held)
        if found.name not in self._tools:
            raise Mismatch
        self._take(found.end)
        self._state, self._arguments = "arguments", []
        self._argument_reader = self._format.arguments.reader(self._tools[found.name])
        self._untold = [CallDelta(self._place, f"call_{secrets.token_hex(12)}", found.name)]
        return Said("", self._told() if self._is_certain else ())

    def _read_arguments(self) -> Said:
        if not self._held:
            raise Incomplete
        piece, end = self._argument_reader.push(self._held)
        self._take(end)
        if piece:
            self._arguments.append(piece)
            self._untold.append(CallDelta(self._place, arguments=piece))
        if end is not None:
            self._state = "tail"
            if not self._is_certain and not self._is_object():
                raise Mismatch
        return Said("", self._told() if self._is_certain else ())

    def _read_tail(self) -> Said:
        self._take(follow(self._format.tail, self._held).end)
        self._raw, self._num_lead = "", 0
        self.num_calls, self._place = self.num_calls + 1, self._place + 1
        self._is_behind_call, self._is_in_list = True, self._format.next_head is not None
        self._state = "next" if self._is_in_list else "text"
        self.is_over = not self._is_parallel
        return Said("", self._told())

    def _read_next(self) -> Said:
        if self._format.last:
            try:
                self._held = self._held[follow(self._format.last, self._held).end :]
            except Mismatch:
                self._state = "head"
            else:
                self._state, self._is_in_list = "text", False
        else:
            self._state = "head"
        return Said()

    def _give_up(self) -> Said:
        """It is no call: what of it is text for sure, to look for calls behind it.

        If it was told already, for the text did not follow the grammar, it stays cut off, and its place is its own.
        """
        self._place += self._state in ("arguments", "tail") and self._is_certain
        text, self._held = self._raw[: self._num_lead], self._raw[self._num_lead :] + self._held
        self._raw, self._untold, self._state = "", [], "text"
        self._is_in_list = False
        self._has_text, self._is_behind_call = True, False
        return Said(text)

    def _take(self, end: int | None) -> str:
        taken, self._held = self._held[:end], "" if end is None else self._held[end:]
        self._raw += taken
        return taken

    def _is_object(self) -> bool:
        return arguments_of("".join(self._arguments)) is not None

    def _told(self) -> tuple[CallDelta, ...]:
        told, self._untold = tuple(self._untold), []
        return told
