"""What a model may be asked: a text, its ids, a conversation, or a gap in a text.

Place in the flow: whoever asks makes one; `request_builder.py` turns it into ids. Read next: `request_builder.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from malmoi.text.chat import Message

MOST_TOOLS = 1024
"""A conversation offers at most so many tools: each is part of the prompt, and of the grammar of the answer."""

CHOICES = ("auto", "none", "required")
"""What `ChatPrompt.tool_choice` is if it is no name."""


@dataclass(frozen=True, kw_only=True)
class ChatPrompt:
    """A conversation, and what else is said of its next message.

    Attributes:
        messages: the conversation, oldest first.
        tools: what the model may call, each as OpenAI writes it: `{"type": "function", "function": {"name": ...}}`.
        tool_choice: "auto": it may call them; "none": it is shown none; "required": it has to call one at least; else
            the name of the one that it has to call.
        is_parallel: several calls in one message are allowed.
        thinks: for a model that thinks when it is told to: whether it does here; None: as its format has it.
        thought_budget: at most so many tokens of thought; then it is closed, and the answer begins. None: no limit. For
            a model that never thinks it says nothing.
        is_continued: the last message is the assistant's, and is gone on with. A template may write an empty thought
            before a message without one, as Qwen3's does; what is begun inside of a thought then stands behind it.
        beginning: ids that the answer begins with, behind everything else; what comes after them is the answer.

    >>> ChatPrompt(messages=[{"role": "user", "content": "안녕?"}], thought_budget=64).tool_choice
    'auto'
    """

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str = "auto"
    is_parallel: bool = True
    thinks: bool | None = None
    thought_budget: int | None = None
    is_continued: bool = False
    beginning: Sequence[int] = ()


@dataclass(frozen=True)
class Infill:
    """A text with a gap, for a model that has learned to fill gaps."""

    before: str
    after: str


Prompt = str | Sequence[int] | Sequence[Message] | ChatPrompt | Infill
"""A text, its ids as they are, a conversation, one of which more is said, or a gap."""


def is_ids(prompt: Prompt) -> TypeGuard[Sequence[int]]:
    """Whether a prompt is ids, one at least; none are a conversation without messages, and refused as that."""
    return isinstance(prompt, Sequence) and len(prompt) > 0 and all(type(token) is int for token in prompt)


def is_conversation(prompt: Prompt) -> TypeGuard[Sequence[Message]]:
    """Whether it is messages alone."""
    return isinstance(prompt, Sequence) and not isinstance(prompt, str) and not is_ids(prompt)
