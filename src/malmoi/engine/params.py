"""How the next token is chosen: `SamplingParams`, checked where it is built.

What each number does to the logits, and in which order, is written down in `sampling.py`. `stop` is text, so
`malmoi.llm` deals with it; everything else is the engine's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from malmoi.core.errors import RequestError


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """What a request may ask about its tokens. The defaults draw from the model's own distribution.

    Attributes:
        temperature: divides the logits, 0.001 to 100; 0 takes the likeliest token always (greedy).
        top_p: of the likeliest tokens, the fewest that make up this probability (Holtzman et al. 2019,
            arXiv:1904.09751, section 3.1); 1 keeps all.
        top_k: of the k likeliest tokens only; 0 keeps all.
        min_p: only tokens at least this fraction as likely as the likeliest one (Nguyen et al. 2024,
            arXiv:2407.01082, section 3); 0 keeps all.
        max_tokens: at most so many tokens; None means as many as the context has room for.
        stop: the text ends before the first of these strings, wherever in it they appear; kept as a tuple.
        frequency_penalty: OpenAI's, -2 to 2: lowers a token's logit by this for each time it occurred.
        presence_penalty: OpenAI's, -2 to 2: lowers it by this once if it occurred at all.
        penalty_scope: where the two penalties above count: in the "output", or in "all", the prompt too.
        repetition_penalty: divides the logit of each token of prompt and output if positive, multiplies it if
            negative (Keskar et al. 2019, arXiv:1909.05858, section 4.1), as in `transformers`; 1 is off.
        logit_bias: id -> what is added to its logit, -100 to 100; -100 forbids the token at any temperature.
        seed: with one, the same request gives the same tokens, alone or among others.
        logprobs: True: the log-probability of each chosen token. n: also the n likeliest ones beside it.
        ignore_eos: go on after a stop id, up to `max_tokens`. Stop strings still end the text.

    Raises:
        RequestError: a value out of its range; the message names parameter, value and range.

    >>> SamplingParams(temperature=0.7, top_p=0.9, max_tokens=100, stop="끝").top_k
    0
    >>> SamplingParams(top_p=1.5)
    Traceback (most recent call last):
        ...
    malmoi.core.errors.RequestError: top_p=1.5 is out of range. Give a number from 0 to 1.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    max_tokens: int | None = None
    stop: tuple[str, ...] | str = ()
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    penalty_scope: Literal["output", "all"] = "output"
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    logprobs: bool | int = False
    ignore_eos: bool = False

    @property
    def num_top_logprobs(self) -> int | None:
        """How many of the likeliest tokens are wanted beside each; None: no log-probabilities at all."""
        return None if self.logprobs is False else 0 if self.logprobs is True else self.logprobs

    def __post_init__(self) -> None:
        if self.temperature != 0:
            self._check("temperature", 0.001, 100, note=", or 0 for the likeliest token always")
        self._check("top_p", 0, 1)
        self._check("top_k", 0, 2**31, is_whole=True, note="; 0 keeps every token")
        self._check("min_p", 0, 1)
        if self.max_tokens is not None:
            self._check("max_tokens", 1, 2**31, is_whole=True, note=", or None for all that fit the context")
        self._check("frequency_penalty", -2, 2)
        self._check("presence_penalty", -2, 2)
        if self.penalty_scope not in ("output", "all"):
            raise RequestError(f"penalty_scope={self.penalty_scope!r} is unknown. Give 'output' or 'all'.")
        self._check("repetition_penalty", 0.01, 100, note="; 1 is off")
        if self.seed is not None:
            self._check("seed", 0, 2**64 - 1, is_whole=True, note=", or None")
        if not isinstance(self.logprobs, bool):
            self._check("logprobs", 0, 1000, is_whole=True, note=", or True or False")
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        for text in self.stop:
            if type(text) is not str or not text:
                raise RequestError(
                    f"stop={self.stop!r} holds {text!r}. Give strings of one character or more."
                )
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))
        for token, bias in self.logit_bias.items():
            if not _is_number(token, is_whole=True) or not _is_number(bias) or not -100 <= bias <= 100:
                raise RequestError(
                    f"logit_bias={{{token!r}: {bias!r}}} is out of range. Give token ids with a number from "
                    "-100 (never) to 100."
                )

    def _check(self, name: str, low: float, high: float, *, is_whole: bool = False, note: str = "") -> None:
        value = getattr(self, name)
        if not _is_number(value, is_whole=is_whole) or not low <= value <= high:
            kind = "whole number" if is_whole else "number"
            raise RequestError(f"{name}={value!r} is out of range. Give a {kind} from {low} to {high}{note}.")


def _is_number(value: object, *, is_whole: bool = False) -> bool:
    return isinstance(value, int if is_whole else int | float) and not isinstance(value, bool)
