"""What an answer is: `Completion`, and the values in it."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TokenLogprob:
    """How one token was chosen: what the model said, and what it was drawn with.

    Attributes:
        token: its id.
        bytes: what it adds to the text; maybe only a part of a character.
        logprob: the model's own log-probability (natural logarithm), before anything changed it.
        probability: after penalties, bias, temperature and filters; 0 if they cut the token off.
        top: the likeliest tokens there, likeliest first, as many as `SamplingParams.logprobs` asked for.
    """

    token: int
    bytes: bytes
    logprob: float
    probability: float
    top: "tuple[TokenLogprob, ...]" = ()


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a completion cost, in tokens; a final stop token counts as one that was generated."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, kw_only=True)
class Timings:
    """When each token was there, in seconds since the request was added.

    >>> timings = Timings(token_times=(0.2, 0.3, 0.4))
    >>> timings.first_token, round(timings.tokens_per_second)
    (0.2, 10)
    """

    token_times: tuple[float, ...]

    @property
    def first_token(self) -> float:
        return self.token_times[0]

    @property
    def tokens_per_second(self) -> float:
        """The speed after the first token; 0 if there is no other."""
        span = self.token_times[-1] - self.token_times[0]
        return (len(self.token_times) - 1) / span if span else 0.0


@dataclass(frozen=True, kw_only=True)
class Completion:
    """An answer.

    Attributes:
        text: without stop string, stop token and special tokens.
        tokens: every id that was generated, those of the stop included.
        finish_reason: "stop": a stop token or a stop string; "length": `max_tokens`, or the context is full.
        logprobs: one for each of `tokens`, if `SamplingParams.logprobs` asked for them.
        usage: tokens of the prompt and of the answer.
        timings: when each token was there.
    """

    text: str
    tokens: list[int]
    finish_reason: Literal["stop", "length"]
    logprobs: list[TokenLogprob] | None
    usage: Usage
    timings: Timings = field(compare=False)
