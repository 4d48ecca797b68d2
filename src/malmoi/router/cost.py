"""What a call costs: a price for each model, by the call or by the token.

Prices are in any unit, as only how they compare matters: dollars a million tokens, or the parameters of two models on
one machine, which is about what a token costs there. Place in the flow: `router.py` asks what the strong model would
cost more. Read next: `router.py`.
"""

from dataclasses import dataclass

from malmoi.core.errors import ConfigError
from malmoi.router.features import num_tokens
from malmoi.router.question import Question


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The price of both models, of a token of prompt and answer, or of a call whatever its length.

    Attributes:
        weak, strong: the price; the strong one is dearer.
        answer_tokens: how long an answer is taken to be.
        unit: of what it is the price.

    >>> Cost(weak=0.25, strong=1.0, unit="call").saved(Question(text="왜?"))
    0.75
    >>> Cost(weak=9.0, strong=18.0, answer_tokens=100).saved(Question(text="가" * 100))
    1512.0
    """

    weak: float = 0.0
    strong: float = 1.0
    answer_tokens: int = 0
    unit: str = "token"

    def __post_init__(self) -> None:
        if not 0 <= self.weak < self.strong:
            raise ConfigError(
                f"prices {self.weak:g} (weak) and {self.strong:g} (strong): there is nothing to save where the strong "
                "model is not dearer. Give a higher price for it, and none below 0."
            )
        if self.unit not in ("token", "call"):
            raise ConfigError(f"unit={self.unit!r} is unknown. Use token or call.")
        if self.answer_tokens < 0:
            raise ConfigError(f"answer_tokens={self.answer_tokens} is negative. Give 0 or more.")

    def saved(self, question: Question) -> float:
        """What the weak model costs less than the strong one, on this question."""
        return (self.strong - self.weak) * self.size(question)

    def size(self, question: Question) -> float:
        """How many tokens a call has, prompt and answer; 1 where the price is of a call."""
        return 1.0 if self.unit == "call" else max(1.0, num_tokens(question)) + self.answer_tokens
