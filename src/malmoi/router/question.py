"""What a router sees of a request: what is asked, what was said before, and what comes with it.

    text | messages -> QUESTION -> rules.py | features.py

It is the same for a row of judged data and for a request to a server, so a router decides on what it has learned from.
Read next: `features.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from malmoi.core.errors import TemplateError


@dataclass(frozen=True, kw_only=True)
class Question:
    """A request, as a router sees it.

    Attributes:
        text: what is asked now: the last message of the user, or a whole text.
        before: what else was said, the system message too, one message a line.
        num_turns: how often the user has spoken.
        has_media: an image or a sound is among the messages.
        has_tools: the model may call something.
        headers: those of the HTTP request, by lower-case name.
    """

    text: str
    before: str = ""
    num_turns: int = 1
    has_media: bool = False
    has_tools: bool = False
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def num_characters(self) -> int:
        """Of all that was said."""
        return len(self.text) + len(self.before)


def question_of(messages: Sequence[object], *, has_tools: bool = False) -> Question:
    """The question that a conversation ends with. A text of several parts is read as one.

    >>> messages = [{"role": "system", "content": "짧게 답해."}, {"role": "user", "content": "말모이가 뭐야?"}]
    >>> question_of(messages)
    Question(text='말모이가 뭐야?', before='짧게 답해.', num_turns=1, has_media=False, ...)

    Raises:
        TemplateError: there is no message, or one is not a mapping with a role.
    """
    if not messages:
        raise TemplateError("the conversation is empty. Give at least one message.")
    said = [_read(index, message) for index, message in enumerate(messages)]
    turns = [index for index, (role, _, _) in enumerate(said) if role == "user"]
    asked = turns[-1] if turns else len(said) - 1
    return Question(
        text=said[asked][1],
        before="\n".join(text for index, (_, text, _) in enumerate(said) if index != asked),
        num_turns=len(turns),
        has_media=any(has_media for _, _, has_media in said),
        has_tools=has_tools,
    )


def _read(index: int, message: object) -> tuple[str, str, bool]:
    """The role of a message, its text, and whether there is more to it than text."""
    match message:
        case {"role": str(role), "content": str(content)}:
            return role, content, False
        case {"role": str(role), "content": [*parts]}:
            texts = [part["text"] for part in parts if _is_text(part)]
            return role, "\n".join(texts), len(texts) < len(parts)
        case {"role": str(role)}:  # a message of the assistant may be calls alone
            return role, "", False
    raise TemplateError(
        f"message {index} is {message!r:.80}, not a mapping with a role. "
        'Write it like {"role": "user", "content": "안녕"}.'
    )


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)
