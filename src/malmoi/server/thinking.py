"""How much a model thinks before it answers: an effort, a number of tokens or a switch, as one `Wish`.

    reasoning_effort | thinking_budget | enable_thinking | thinking | think -> WISH -> with_thinking -> ChatPrompt

A budget is kept to by force: when it is spent the thought is closed, and the answer begins. Place in the flow: every
endpoint for conversations, once it knows which model answers. Read next: `malmoi/llm/prompt.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from malmoi.llm.prompt import ChatPrompt
from malmoi.server.catalogue.writer import Writer
from malmoi.server.errors import ServerError

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
BUDGETS: Mapping[Effort, int | None] = {
    "none": 0, "minimal": 512, "low": 1024, "medium": 4096, "high": 16384, "xhigh": None, "max": None,
}  # fmt: skip
"""At most so many tokens of thought; None: no limit but that of the answer."""
EFFORT = "How much it thinks, in tokens at most: " + ", ".join(
    f"{effort} {'no limit' if most is None else most}" for effort, most in BUDGETS.items()
)
"""What a body says of an effort."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a request says of thinking.

    Attributes:
        param: the parameter that says it, for errors.
        thinks: whether the model is to think; None: as its format has it.
        budget: at most so many tokens; 0 is not to think. None: no limit.

    >>> Wish.of_effort("low")
    Wish(param='reasoning_effort', thinks=True, budget=1024)
    """

    param: str
    thinks: bool | None = None
    budget: int | None = None

    def __post_init__(self) -> None:
        if self.budget is not None and self.budget < 0:
            raise ServerError(
                f"{self.param}={self.budget} is no number of tokens. Give 0 or more.", param=self.param
            )

    @classmethod
    def of_effort(cls, effort: Effort, *, param: str = "reasoning_effort") -> "Wish":
        """None is not to think; the others are, and have their `BUDGETS`."""
        return cls(param=param, thinks=effort != "none", budget=BUDGETS[effort])


def with_thinking(prompt: ChatPrompt, wish: Wish | None, writer: Writer) -> ChatPrompt:
    """The prompt for a model that is to think so.

    Not to think is what every model can do: of one that always does, the thought is closed at once. Raises ServerError
    where a model is to think that cannot, as OpenAI, Anthropic and Ollama refuse it for such models.
    """
    if wish is None:
        return prompt
    is_wanted = wish.thinks is not False and wish.budget != 0
    match writer.abilities.thinking, is_wanted:
        case "never", True:
            raise ServerError(
                f"{wish.param} is about thinking, and this model answers at once. Leave it out, or ask another model.",
                param=wish.param,
            )
        case "never", False:
            return prompt
        case "always", True:
            return replace(prompt, thought_budget=wish.budget)
        case "always", False:
            return replace(prompt, thought_budget=0)
        case _, True:
            return replace(prompt, thinks=wish.thinks, thought_budget=wish.budget)
    return replace(prompt, thinks=False)
