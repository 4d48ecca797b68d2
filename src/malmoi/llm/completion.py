"""What an answer is: `Completion`, and the values in it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

FinishedBy = Literal["stop", "length", "tool_calls"]
"""Why a text has ended: by itself or at a stop string; `max_tokens`, or the context is full; with calls."""


class ToolCall(NamedTuple):
    """What a model wants to be called: `arguments` is the text of a JSON object."""

    id: str
    name: str
    arguments: str


class CallDelta(NamedTuple):
    """What a step has added to the call `place` of a message: first its id and name, then its arguments in pieces."""

    place: int
    id: str = ""
    name: str = ""
    arguments: str = ""


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
    """What a completion cost, in tokens; a final stop token counts as one that was generated.

    `thought_tokens` are those of the completion that were thought. `cached_tokens` are those of the prompt that an
    earlier request had computed: what was left to compute does not change the answer, so it is not compared.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = field(default=0, compare=False)
    thought_tokens: int = 0

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
        finish_reason: "stop": a stop token or a stop string; "length": `max_tokens`, or the context is full;
            "tool_calls": it has said what is to be called.
        thought: what the model thought before it answered, without its marks.
        tool_calls: what it wants to be called.
        stop: the stop string that ended the text, if one did.
        logprobs: one for each of `tokens`, if `SamplingParams.logprobs` asked for them.
        prompt_logprobs: one for each token of the prompt but the first, which nothing came before, if
            `SamplingParams.prompt_logprobs` asked for them. Of an encoder-decoder the prompt is what its answers begin
            with.
        siblings: the other answers, if `SamplingParams.n` asked for several; they have no siblings.
        usage: tokens of the prompt and of the answer. Siblings count the prompt too, though it was computed once.
        timings: when each token was there.
    """

    text: str
    tokens: list[int]
    finish_reason: FinishedBy
    logprobs: list[TokenLogprob] | None
    prompt_logprobs: list[TokenLogprob] | None = None
    siblings: "list[Completion]" = field(default_factory=list)
    thought: str = ""
    tool_calls: Sequence[ToolCall] = ()
    stop: str | None = None
    usage: Usage
    timings: Timings = field(compare=False)
