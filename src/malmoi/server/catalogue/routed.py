"""A model that is one of two others: rules, then a router, decide for each request which one answers.

    prompt -> question -> the first rule that holds, else Router.decide -> Pick(name, why)

Place in the flow: the catalogue has it under a name such as `auto`, and asks it before it asks for a model. What it is
made of: `malmoi/router`. Read next: `entry.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from malmoi.core.errors import ConfigError, RequestError
from malmoi.llm.prompt import ChatPrompt, Infill, Prompt, is_ids
from malmoi.router import Question, Router, Rule, first_rule, question_of
from malmoi.server.catalogue.entry import Chooser, Pick


@dataclass(frozen=True, kw_only=True)
class RoutedSettings:
    """What a file of settings says of such a model.

    Attributes:
        weak, strong: the names of the two models that the router chooses between.
        router: the directory that `malmoi router train` has written; None: what no rule decides goes to the strong one.
        rules: the first that holds decides; a rule may name any model.
    """

    weak: str
    strong: str
    router: str | None = None
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        if self.weak == self.strong:
            raise ConfigError(f"weak and strong are both {self.weak!r}. Name two models.")
        if self.router is None and not self.rules:
            raise ConfigError(
                "there is neither a router nor a rule, so there is nothing to choose by. Give one."
            )

    @property
    def names(self) -> frozenset[str]:
        """The models that it may choose."""
        return frozenset({self.weak, self.strong, *(rule.use for rule in self.rules)})


class Routed(Chooser):
    """Chooses by settings. Raises CheckpointError if the router that they name cannot be read.

    >>> rules = (Rule(name="code", use="big", languages=("code",)),)
    >>> routed = Routed(RoutedSettings(weak="small", strong="big", rules=rules))
    >>> routed.choose("f = [x[0] for x in (a, b)];")
    Pick(name='big', why='rule "code": it is in code')
    """

    def __init__(self, settings: RoutedSettings) -> None:
        self.settings = settings
        self.router = None if settings.router is None else Router.load(settings.router)

    def described(self) -> dict[str, Any]:
        return {**super().described(), "chooses": sorted(self.settings.names)}

    def choose(self, prompt: Prompt, headers: Mapping[str, str] = MappingProxyType({})) -> Pick:
        settings = self.settings
        question = replace(question_in(prompt), headers=headers)
        if (found := first_rule(settings.rules, question)) is not None:
            rule, why = found
            return Pick(rule.use, why)
        if self.router is None:
            return Pick(settings.strong, "no rule holds")
        decision = self.router.decide(question)
        said = f"{decision.probability:.2f} that {settings.weak} is as good"
        if decision.is_weak:
            return Pick(settings.weak, f"easy: {said}, {max(0.0, decision.needed):.2f} is enough")
        return Pick(settings.strong, f"hard: {said}, {min(1.0, decision.needed):.2f} is needed")


def question_in(prompt: Prompt) -> Question:
    """What a router sees of a prompt.

    >>> question_in(Infill("def f(", "): pass")).text
    'def f(): pass'

    Raises:
        RequestError: it is ids, which mean another text to each model.
        TemplateError: a conversation without messages, or with one that is none.
    """
    match prompt:
        case str():
            return Question(text=prompt)
        case ChatPrompt():
            return question_of(prompt.messages, has_tools=bool(prompt.tools) and prompt.tool_choice != "none")
        case Infill():
            return Question(text=prompt.before + prompt.after)
    if is_ids(prompt):
        raise RequestError(
            "ids mean another text to each model. Name the model whose ids they are, or send text."
        )
    assert isinstance(prompt, Sequence), "there is no fifth kind"
    return question_of(prompt)
