"""Which strings of a tokenizer have power in a chat, so that what somebody says must not be able to write them.

Used by authorship.py, which hides them from the template, and guarded.py, which encodes them as plain text.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from malmoi.text.ink import NOTHING
from malmoi.text.template import Template


@dataclass(frozen=True)
class Controls:
    """Strings that are one token, and that what a message says must not be able to write.

    `special`: the tokenizer calls them special. `written`: it does not, but the template writes them, as
    DeepSeek's does with <｜User｜> and Qwen's with <think>. What an assistant says may hold the latter (but not the
    functions that it calls): they are words of its vocabulary.
    """

    special: frozenset[str]
    written: frozenset[str]

    @classmethod
    def of(cls, template: Template, *, special: Collection[str], added: Collection[str]) -> "Controls":
        """Return those of a template and of a tokenizer's special and other added tokens.

        An added token with no bracket or bar around it is a word that somebody added, not a control token.
        """
        has_brackets = re.compile(r"[^\w\s].*\w.*[^\w\s]").fullmatch
        candidates = [token for token in set(added) - set(special) if has_brackets(token)]
        written = [token for token in candidates if any(token in text for text in template.literals)]
        return cls(frozenset(special), frozenset(written))

    @cached_property
    def all(self) -> frozenset[str]:
        return self.special | self.written

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """Each control token."""
        return any_of(self.all)

    @cached_property
    def parts(self) -> re.Pattern[str]:
        """Each control token, and each bracket and bar that one has: without them none can be pieced together."""
        return any_of(self.all | set(re.findall(r"[^\w\s]", "".join(self.all))))


def any_of(strings: Collection[str]) -> re.Pattern[str]:
    """Return a pattern for the longest of `strings` at each place."""
    longest_first = sorted(filter(None, strings), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else NOTHING
