"""Rules: what somebody has decided already, before a router is asked.

    [[rules]]                          name = "photos", has_media = true, use = "eyes"

    Question -> the first RULE that holds -> a model, and why

Place in the flow: `malmoi/server/catalogue/routed.py` reads them from a file of settings. Read next: `router.py`.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from malmoi.core.errors import ConfigError
from malmoi.router.features import MAX_READ, language_of
from malmoi.router.question import Question

Language = Literal["ko", "en", "code", "other"]


@dataclass(frozen=True, kw_only=True)
class Rule:
    r"""A model for the questions of which everything holds that is said here.

    Attributes:
        name: what `why` calls it.
        use: the model that answers.
        languages: `features.language_of` what is asked is one of these.
        min_characters, max_characters: of the whole conversation.
        has_media, has_tools: there is an image or a sound, or there is none; something may be called, or nothing.
        pattern: a regular expression found somewhere in the first `MAX_READ` characters of what is asked. It runs on
            what strangers write: keep it plain.
        headers: by the name of an HTTP header, a regular expression that is all of its value.

    >>> rule = Rule(name="sums", use="big", languages=("ko",), pattern=r"\d+ *[-+*/] *\d+")
    >>> rule.why(Question(text="12 + 30은 얼마야?")), rule.why(Question(text="안녕?"))
    ('rule "sums": it is in ko, and says "12 + 30"', None)

    Raises:
        ConfigError: a rule without a condition, a regular expression that is none, or lengths that no text has.
    """

    name: str
    use: str
    languages: tuple[Language, ...] = ()
    min_characters: int | None = None
    max_characters: int | None = None
    has_media: bool | None = None
    has_tools: bool | None = None
    pattern: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or not self.use:
            raise ConfigError("a rule has no name, or names no model. Write name and use.")
        conditions = (self.min_characters, self.max_characters, self.has_media, self.has_tools, self.pattern)
        if not self.languages and not self.headers and all(one is None for one in conditions):
            raise ConfigError(
                f"the rule {self.name!r} holds for everything. Give it a condition, such as languages."
            )
        if (low := self.min_characters or 0) < 0 or low > (high := self.max_characters or low) or high < 0:
            raise ConfigError(
                f"the rule {self.name!r} wants {low} to {self.max_characters} characters, which no text has. Give a "
                "range from 0 up."
            )
        for pattern in (self.pattern or "", *self.headers.values()):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(
                    f"the rule {self.name!r} has the pattern {pattern!r}, which is no regular expression: {error}. "
                    "Write it as Python's re has it."
                ) from None

    def why(self, question: Question) -> str | None:
        """Why it holds for a question, in a sentence; None if it does not."""
        reasons = list(self._reasons(question))
        if None in reasons:
            return None
        return f'rule "{self.name}": it {", and ".join(reason for reason in reasons if reason)}'

    def _reasons(self, question: Question) -> Iterator[str | None]:
        """What holds of each condition; None for one that does not."""
        size = question.num_characters
        if self.languages:
            language = language_of(question)
            yield f"is in {language}" if language in self.languages else None
        if self.min_characters is not None or self.max_characters is not None:
            fits = (self.min_characters or 0) <= size and (
                self.max_characters is None or size <= self.max_characters
            )
            yield f"has {size:,} characters" if fits else None
        for wanted, found, what in (
            (self.has_media, question.has_media, "images or sounds"),
            (self.has_tools, question.has_tools, "tools"),
        ):
            if wanted is not None:
                yield f"has {what if found else f'no {what}'}" if wanted == found else None
        if self.pattern is not None:
            match = re.search(self.pattern, question.text[:MAX_READ])
            yield f'says "{match[0]:.40}"' if match else None
        for header, pattern in self.headers.items():
            value = question.headers.get(header.lower())
            yield f"comes with {header}: {value:.40}" if value and re.fullmatch(pattern, value) else None


def first_rule(rules: Sequence[Rule], question: Question) -> tuple[Rule, str] | None:
    """The first rule that holds, and why it does."""
    for rule in rules:
        if (why := rule.why(question)) is not None:
            return rule, why
    return None
