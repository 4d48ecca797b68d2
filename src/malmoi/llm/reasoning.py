r"""What a model thinks before it answers: the marks around it, found in the checkpoint's files, and a reader of bytes.

    template, vocabulary -> find -> ThoughtFormat -> THOUGHT READER: bytes -> thought, answer

| marks                      | who writes them                                        | switch            |
|----------------------------|--------------------------------------------------------|-------------------|
| `<think>` `</think>`       | Qwen3, EXAONE 4, SmolLM3, GLM 4.5                       | `enable_thinking` |
| the same                   | DeepSeek-V3.1                                          | `thinking`        |
| the same                   | DeepSeek-R1, QwQ                                       | none              |
| `<thought>` `</thought>`   | EXAONE Deep                                            | none              |
| `[THINK]` `[/THINK]`       | Magistral                                              | none              |

Looked up in their chat templates: Qwen3's writes an empty thought into the prompt if `enable_thinking` is false;
DeepSeek-R1's opens the thought in the prompt. Which of the two a prompt does is read from the rendered prompt. Read
next: `thought_rule.py`, which bounds it; `message.py`.
"""

from bisect import bisect_left
from collections.abc import Collection
from copy import copy
from dataclasses import dataclass
from typing import Literal

from malmoi.llm.stop import num_begun
from malmoi.text.chat import ChatTemplate

Place = Literal["before", "thought", "gap", "answer"]
"""Where in a message its text has come to: nothing is there yet but white space; in the thought; behind its closing
mark, where line ends are of the format; in the answer."""


@dataclass(frozen=True)
class ThoughtFormat:
    """How a model writes what it thinks.

    Attributes:
        opening: the mark before it.
        closing: the mark behind it.
        before: what the model has learned to write before the closing mark.
        after: what it has learned to write between the closing mark and the answer.
        switch: the variable of its template that says whether it thinks; None: it always does.
        is_taught: its template names the marks; False: only its vocabulary does, and it may never think.
    """

    opening: str
    closing: str
    before: str = ""
    after: str = ""
    switch: str | None = None
    is_taught: bool = True

    @property
    def ability(self) -> Literal["never", "always", "switchable"]:
        """Whether a model with it thinks."""
        if not self.is_taught:
            return "never"
        return "always" if self.switch is None else "switchable"

    @property
    def marks(self) -> tuple[str, str]:
        return self.opening, self.closing


FORMATS = (
    ThoughtFormat("<think>", "</think>", "\n", "\n\n"),
    ThoughtFormat("<thought>", "</thought>", "\n", "\n\n"),
    ThoughtFormat("[THINK]", "[/THINK]"),
)
"""The marks that are known; the first that a checkpoint names are its own."""

SWITCHES = ("enable_thinking", "thinking")
"""The variables under which templates are told whether to think."""


def find(template: ChatTemplate, added: Collection[str]) -> ThoughtFormat | None:
    r"""How a model thinks: with the marks that its template names, else with those among its `added` tokens.

    None: it does not.

    >>> find(ChatTemplate("{{ messages[0].content.split('</think>')[-1] }}"), added=()).marks
    ('<think>', '</think>')
    """
    switch = next(filter(template.reads, SWITCHES), None)
    for each in FORMATS:
        if any(mark in text for mark in each.marks for text in template.literals):
            return ThoughtFormat(*each.marks, each.before, each.after, switch)
    for each in FORMATS:
        if set(each.marks) <= set(added):
            return ThoughtFormat(*each.marks, each.before, each.after, is_taught=False)
    return None


class ThoughtReader:
    r"""Tells thought and answer apart in the bytes of a message, token by token, wherever it is cut.

    The thought is what stands between the first opening mark, if nothing but white space comes before it, and the next
    closing mark, without the line ends at its edges and those before the answer. Where there is no thought, every byte
    is of the answer.

    Args:
        thoughts: its format; None: all is answer.
        place: where the text begins: in a "thought" that the prompt has opened, or in the "answer".

    Attributes:
        num_tokens: how many tokens belong to the thought: marks do not, and what may still become one not yet.
        num_open: how many more do, if it does not.
        held: what cannot be said yet to be thought, answer or mark.

    >>> reader = ThoughtReader(FORMATS[0])
    >>> [reader.push(piece) for piece in (b"<think>\n", b"\xec\x9d\x8c", b"\n</thi", b"nk>", b"\n\n", b"ok")]
    [(b'', b''), (b'\xec\x9d\x8c', b''), (b'', b''), (b'', b''), (b'', b''), (b'', b'ok')]
    >>> reader.num_tokens
    2
    """

    def __init__(self, thoughts: ThoughtFormat | None, *, place: Place = "before") -> None:
        self.format = thoughts
        self.place: Place = "answer" if thoughts is None else place
        self.num_tokens = 0
        self.held = b""
        self._opening, self._closing = (mark.encode() for mark in thoughts.marks) if thoughts else (b"", b"")
        self._is_blank = True  # no thought but line ends yet
        self._num_bytes = 0  # of all that was pushed
        self._open: list[int] = []  # where in that tokens begin that are not counted yet

    @property
    def num_open(self) -> int:
        return len(self._open)

    def push(self, piece: bytes) -> tuple[bytes, bytes]:
        """Take the bytes of the next token; return what is certainly thought, and what is answer."""
        if self.place == "answer":
            return b"", piece
        self._open.append(self._num_bytes)
        self._num_bytes += len(piece)
        self.held += piece
        thought = self._thought() if self._is_in_thought() else b""
        return thought, self._answer()

    def finish(self) -> tuple[bytes, bytes]:
        """What was held back, now that nothing follows."""
        held, self.held = self.held, b""
        if self.place == "thought":
            self._count(0)
            return held.rstrip(b"\n"), b""
        return b"", held if self.place == "before" else b""

    def copy(self) -> "ThoughtReader":
        """The same state, to go on from independently."""
        own = copy(self)
        own._open = list(self._open)
        return own

    def _is_in_thought(self) -> bool:
        if self.place == "before":
            text = self.held.lstrip()
            if text.startswith(self._opening):
                self.place, self.held = "thought", text[len(self._opening) :]
                self._drop_open(len(self.held))
            elif not self._opening.startswith(text):
                self.place = "answer"
        return self.place == "thought"

    def _thought(self) -> bytes:
        """The thought that is certain, taken from what is held."""
        if self._is_blank:
            self.held = self.held.lstrip(b"\n")
        at = self.held.find(self._closing)
        if at >= 0:
            thought, self.held = self.held[:at], self.held[at:]
            self._count(len(self.held))
            self.place, self.held, self._open = "gap", self.held[len(self._closing) :], []
            thought = thought.rstrip(b"\n")
        else:
            keep = num_begun(self.held, self._closing)
            end = len(self.held[: len(self.held) - keep].rstrip(b"\n"))
            thought, self.held = self.held[:end], self.held[end:]
            self._count(keep)
        self._is_blank = self._is_blank and not thought
        return thought

    def _answer(self) -> bytes:
        if self.place == "gap":
            self.held, self._open = self.held.lstrip(b"\n"), []
            self.place = "answer" if self.held else "gap"
        if self.place != "answer":
            return b""
        answer, self.held, self._open = self.held, b"", []
        return answer

    def _count(self, end: int) -> None:
        """Count the tokens that begin before the last `end` bytes."""
        self.num_tokens += self._drop_open(end)

    def _drop_open(self, end: int) -> int:
        """Forget the tokens that begin before the last `end` bytes; return how many there were."""
        num_dropped = bisect_left(self._open, self._num_bytes - end) if end else len(self._open)
        del self._open[:num_dropped]
        return num_dropped
