"""What flows from the sources to the packer: a `Text`, a `Conversation`, a `Labelled` or a `Tokenized` text.

Prose and chats can be mixed in one stream, because everything after this point (shuffling, mixing,
packing) only asks a document how large it is and where it stood. Only `samples.encode` looks inside.
Read next: `sources.py` makes documents, `samples.py` turns them into ids and targets.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from malmoi.data.token_shards import Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Prose, or one piece of a long document (see `pieces`).

    `where` is `file:line` (of plain text, `file#piece`), for error messages. `is_start` and `is_end` say
    whether the document begins and ends here: only a start gets the document separator in front, only an end
    has it as its last target.
    """

    text: str
    where: str
    is_start: bool = True
    is_end: bool = True

    @property
    def num_characters(self) -> int:
        return len(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Chat messages in the OpenAI shape; the chat template turns them into ids and a loss mask.

    >>> Conversation(messages=({"role": "user", "content": "안녕"},), where="chat.jsonl:1").num_characters
    2
    """

    messages: tuple[Mapping[str, Any], ...]
    where: str

    @property
    def num_characters(self) -> int:
        return sum(len(str(message.get("content") or "")) for message in self.messages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """A text, or a pair of texts, and what a person said of it: the number or name of a label, or a score.

    >>> Labelled(text="재밌다", pair=None, label=1, where="nsmc.jsonl:1").num_characters
    3
    """

    text: str
    pair: str | None
    label: str | int | float
    where: str

    @property
    def num_characters(self) -> int:
        return len(self.text) + len(self.pair or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokenized:
    """Prose that was encoded before, or one piece of a long document: one of the documents of a token file."""

    shard: Shard
    number: int

    @property
    def num_characters(self) -> int:
        return int(self.shard.documents["num_characters"][self.number])

    @property
    def where(self) -> str:
        return f"{self.shard.directory / self.shard.files.tokens.path}#{self.number}"


Document = Text | Conversation | Labelled | Tokenized


def pieces(chunks: Iterable[str], max_characters: int) -> Iterator[tuple[str, bool]]:
    r"""Cut text into (piece, is_last) of at most `max_characters`, at the end of a line or a word if it can.

    Holds at most one piece and one chunk in memory. Joined, the pieces are the text again.

    >>> list(pieces(["첫 줄\n", "둘째 줄"], 6))
    [('첫 줄\n', False), ('둘째 줄', True)]
    """
    held = ""
    for chunk in chunks:
        held += chunk
        while len(held) > max_characters:
            end = _good_end(held, max_characters)
            yield held[:end], False
            held = held[end:]
    yield held, True


def _good_end(text: str, limit: int) -> int:
    """The largest cut <= limit after a newline, else after a space, in the second half; else the limit."""
    for separator in ("\n", " "):
        at = text.rfind(separator, limit // 2, limit)
        if at >= 0:
            return at + 1
    return limit
