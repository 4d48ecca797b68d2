"""Where the assistant's turns are in a rendered conversation: what a loss mask has to cover.

A template with `{% generation %}` says so itself. For any other, less is rendered: the messages before an answer,
with a generation prompt, show what stands before its words; the messages up to it show what ends them. Ink
(ink.py) shows where that is in the whole text. Where it does not fit to the letter, the mask is refused.
Read first: authorship.py.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

from malmoi.core.errors import TemplateError
from malmoi.text.authorship import Authorship
from malmoi.text.ink import Span

_REMEDY = "Mark what the assistant writes in the chat template with {% generation %}...{% endgeneration %}."


def assistant_turns(chat: Authorship, roles: Sequence[str]) -> list[Span]:
    """Return the characters that the assistant has to produce: of each turn its words and the token that ends it.

    Raises:
        TemplateError: that cannot be told with certainty.
    """
    if chat.template.has_generation_tag:
        return chat.generation
    if chat.inked is None:
        raise TemplateError(f"no loss mask: the chat template rewrites the content of messages. {_REMEDY}")
    spans = chat.ink.spans(chat.inked)
    turns = []
    for index in (index for index, role in enumerate(roles) if role == "assistant"):
        own = [span for author, span in spans if author == index]
        words = (own[0][0], own[-1][1]) if own else (0, 0)
        said_inside = [span for _, span in spans if words[0] <= span[0] < words[1]]
        if not own or own != said_inside:
            raise TemplateError(
                f"no loss mask: the chat template does not show message {index} (assistant) in one piece. "
                f"Leave it out if it is empty. {_REMEDY}"
            )
        turns.append(_turn_around(chat, chat.inked, words, index))
    if any(before[1] > after[0] for before, after in pairwise(turns)):
        raise TemplateError(
            f"no loss mask: two turns of the assistant overlap in the rendered chat. {_REMEDY}"
        )
    return turns


def _turn_around(chat: Authorship, whole: str, words: Span, index: int) -> Span:
    """The turn of message `index`, of which `words` is in ink."""
    try:
        prompt = chat.of_first_messages(index, add_generation_prompt=True)
        closed = chat.of_first_messages(index + 1, add_generation_prompt=False)
    except TemplateError as error:
        raise TemplateError(
            f"no loss mask: the chat template cannot render the conversation up to message {index} (assistant): "
            f"{error} {_REMEDY}"
        ) from error
    said, header = chat.ink.split_after_last(prompt)
    said_in_whole, lead = chat.ink.split_after_last(whole[: words[0]])
    start = _end_of_header(header, lead, chat.controls.pattern)
    said_at_last, ending = chat.ink.split_after_last(closed)
    end = _end_of_turn(ending, whole[words[1] :], chat.controls.pattern)
    is_same = said[-1:] == said_in_whole[-1:] and said_at_last[-1:] == whole[words[1] - 1]
    if start is None or end is None or not is_same:
        raise TemplateError(
            f"no loss mask: it is unclear where message {index} (assistant) begins or ends in the rendered chat, "
            f"or no control token ends it. {_REMEDY}"
        )
    return len(said_in_whole) + start, words[1] + end


def _end_of_header(header: str, lead: str, controls: re.Pattern[str]) -> int | None:
    """How much of `lead`, the text between two messages, a prompt for the second holds, which has `header` there.

    That is the whole `header`; or what both begin with, if one of them goes on with a control token from there:
    DeepSeek-R1 prompts with <｜Assistant｜><think>, but shows old answers without their thoughts.
    """
    if lead.startswith(header):
        return len(header)
    same = _length_in_common(header, lead)
    starts = [
        match.start() for text in (header, lead) for match in controls.finditer(text) if match.end() > same
    ]
    return min((start for start in starts if start <= same), default=None)


def _end_of_turn(ending: str, following: str, controls: re.Pattern[str]) -> int | None:
    """Where in `following` the last control token ends of those that close the turn, which has `ending` there."""
    same = _length_in_common(ending, following)
    return max((match.end() for match in controls.finditer(following, 0, same)), default=None)


def _length_in_common(one: str, other: str) -> int:
    different = (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(different, min(len(one), len(other)))
