"""How the next token is chosen: `SamplingParams`, checked where it is built.

What each number does to the logits, and in which order, is written down in `sampling.py`. What is about text,
`OF_TEXT`, `malmoi.llm` deals with; everything else is the engine's.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from malmoi.core.errors import RequestError

_FORMS = ("json_schema", "regex", "choice", "grammar")
_OF_DRAWING = ("temperature", "top_p", "top_k", "min_p", "typical_p", "seed")
OF_TEXT = ("stop", *_FORMS, "script_lock")
"""The parameters that speak of text, which the engine does not know."""


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
        n: how many answers, drawn independently; the prompt is computed once. `Generation.siblings` has the others. Of
            a search, the n likeliest that it has found, best first.
        beam_width: more than 1 searches for the likeliest answers, so many beginnings at a time (`BeamSearch`), and
            draws nothing: `temperature` is 0 or left out. The tokens are there when the search is over; a stop string
            cuts what it has found. 1 takes token by token, as `temperature` says.
        length_penalty: the sum of an answer's log-probabilities is divided by its length to this power, -10 to 10: the
            more, the longer the answers that a search finds; 0 ranks by the sum.
        early_stopping: of a search that has found `beam_width` answers. True: it is over. False: as soon as the best
            beam scores no better than the last of them. "never": as soon as none could, even if it went on to
            `max_tokens` and lost nothing.
        typical_p: of the tokens whose surprise is nearest to the expected one, the fewest that make up this probability
            (Meister et al. 2022, arXiv:2202.00666, section 4); 1 keeps all.
        max_tokens: at most so many tokens; None means as many as the context has room for.
        min_tokens: no stop id before so many tokens. Stop strings still end the text.
        stop: the text ends before the first of these strings, wherever in it they appear; kept as a tuple.
        frequency_penalty: OpenAI's, -2 to 2: lowers a token's logit by this for each time it occurred.
        presence_penalty: OpenAI's, -2 to 2: lowers it by this once if it occurred at all.
        penalty_scope: where the two penalties above count: in the "output", or in "all", the prompt too.
        repetition_penalty: divides the logit of each token of prompt and output if positive, multiplies it if
            negative (Keskar et al. 2019, arXiv:1909.05858, section 4.1), as in `transformers`; 1 is off.
        logit_bias: id -> what is added to its logit, -100 to 100; -100 forbids the token at any temperature.
        seed: with one, the same request gives the same tokens, alone or among others; the i-th of `n` answers, those
            of the seed + i.
        logprobs: True: the log-probability of each chosen token. n: also the n likeliest ones beside it.
        prompt_logprobs: the same for the prompt's tokens from the second on; `Generation.prompt_choices` has them. All
            of the prompt is then computed, also what is cached of it.
        ignore_eos: go on after a stop id, up to `max_tokens`. Stop strings still end the text.
        json_schema: the answer is a JSON value of this JSON Schema, a mapping or its text, in one line, as `json.dumps`
            writes it; `{"type": "object"}` is any object. Kept as text.
        regex: the whole answer matches this regular expression, in the syntax of Rust's `regex`: no look-around, and
            a digit is one of 0 to 9.
        choice: the answer is one of these strings; kept as a tuple.
        grammar: the answer is of this grammar, in Lark's notation with the rule `start`, or in GBNF with `root ::=`.
        script_lock: the only scripts that the answer is written in, such as "hangul" or ("hangul", "han"); kept as a
            tuple. Digits, punctuation and emoji are of every script. Latin and Greek letters, of which names, code and
            formulas are made, pass up to `latin_share`, or freely if they are named here.
        latin_share: under a script lock, at most this share of the words of the answer so far, those in fenced code
            aside, are Latin or Greek, 0 to 1; `malmoi/llm/script_lock.py` says how it counts.

    At most one of json_schema, regex, choice and grammar is given. They need the extra `malmoi[guided]`. An answer that
    `max_tokens` or a stop string cuts off is the beginning of such a text.

    Raises:
        RequestError: a value out of its range, or two that contradict each other; the message names parameter, value
            and range.

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
    n: int = 1
    beam_width: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | Literal["never"] = False
    typical_p: float = 1.0
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] | str = ()
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    penalty_scope: Literal["output", "all"] = "output"
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    logprobs: bool | int = False
    prompt_logprobs: bool | int = False
    ignore_eos: bool = False
    json_schema: str | Mapping[str, Any] | None = None
    regex: str | None = None
    choice: tuple[str, ...] | str = ()
    grammar: str | None = None
    script_lock: tuple[str, ...] | str = ()
    latin_share: float = 0.3

    @property
    def form(self) -> tuple[str, str | tuple[str, ...]] | None:
        """Of json_schema, regex, choice and grammar the one that is given, by its name; None if the answer is free."""
        given = [name for name in _FORMS if self._says(name)]
        return (given[0], getattr(self, given[0])) if given else None

    def without_text(self) -> "SamplingParams":
        """The same without `OF_TEXT`: what an engine can be asked."""
        defaults = SamplingParams()
        return replace(self, **{name: getattr(defaults, name) for name in OF_TEXT})

    def text_asked(self) -> str | None:
        """The first of `OF_TEXT` that is given."""
        return next(filter(self._says, OF_TEXT), None)

    def _says(self, name: str) -> bool:
        return getattr(self, name) not in (None, ())

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
        self._check("n", 1, 1024, is_whole=True)
        self._check("beam_width", 1, 1024, is_whole=True)
        self._check("length_penalty", -10, 10)
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            raise RequestError(
                f"early_stopping={self.early_stopping!r} is unknown. Give True, False or 'never'."
            )
        self._check("typical_p", 0.001, 1, note="; 1 keeps every token")
        if self.max_tokens is not None:
            self._check("max_tokens", 1, 2**31, is_whole=True, note=", or None for all that fit the context")
        self._check("min_tokens", 0, 2**31, is_whole=True)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise RequestError(
                f"min_tokens={self.min_tokens} is more than max_tokens={self.max_tokens}. Raise the latter, or lower "
                "the former."
            )
        self._check("frequency_penalty", -2, 2)
        self._check("presence_penalty", -2, 2)
        if self.penalty_scope not in ("output", "all"):
            raise RequestError(f"penalty_scope={self.penalty_scope!r} is unknown. Give 'output' or 'all'.")
        self._check("repetition_penalty", 0.01, 100, note="; 1 is off")
        if self.seed is not None:
            self._check("seed", 0, 2**64 - 1, is_whole=True, note=", or None")
        for name in ("logprobs", "prompt_logprobs"):
            if not isinstance(getattr(self, name), bool):
                self._check(name, 0, 1000, is_whole=True, note=", or True or False")
        for name, least in (("stop", 1), ("choice", 0), ("script_lock", 1)):
            value = getattr(self, name)
            if not isinstance(value, Iterable):
                raise RequestError(f"{name}={value!r} is neither a string nor several. Give one, or a list.")
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
            self._check_strings(name, getattr(self, name), least=least)
        self._check("latin_share", 0, 1)
        if self.beam_width > 1:
            self._check_search()
        if isinstance(self.json_schema, Mapping):
            object.__setattr__(self, "json_schema", _json(self.json_schema))
        self._check_form()
        if not isinstance(self.logit_bias, Mapping):
            raise RequestError(
                f"logit_bias={self.logit_bias!r} is no mapping. Give token ids with a number each."
            )
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))
        for token, bias in self.logit_bias.items():
            if not _is_number(token, is_whole=True) or not _is_number(bias) or not -100 <= bias <= 100:
                raise RequestError(
                    f"logit_bias={{{token!r}: {bias!r}}} is out of range. Give token ids with a number from "
                    "-100 (never) to 100."
                )

    def _check_search(self) -> None:
        if self.n > self.beam_width:
            raise RequestError(
                f"n={self.n} is more than beam_width={self.beam_width}, which is how many answers a search finds. "
                "Raise the latter, or lower the former."
            )
        defaults = SamplingParams()
        for name in _OF_DRAWING if self.temperature else ():
            if getattr(self, name) != getattr(defaults, name):
                raise RequestError(
                    f"beam_width={self.beam_width} searches for the likeliest answers, and "
                    f"{name}={getattr(self, name)!r} is about drawing one. Give temperature=0, or leave it out."
                )

    def _check_strings(self, name: str, strings: Sequence[str], *, least: int) -> None:
        for text in strings:
            if type(text) is not str or len(text) < least:
                kind = "strings of one character or more" if least else "strings"
                raise RequestError(f"{name}={strings!r} holds {text!r}. Give {kind}.")

    def _check_form(self) -> None:
        given = [name for name in _FORMS if self._says(name)]
        if len(given) > 1:
            raise RequestError(
                f"{' and '.join(given)} are given together, and an answer has one form. Give one."
            )
        for name in given:
            if name != "choice" and type(getattr(self, name)) is not str:
                raise RequestError(f"{name}={getattr(self, name)!r} is not text. Give a string.")
        if given and self.ignore_eos:
            raise RequestError(
                f"ignore_eos=True and {given[0]} contradict each other: an answer of that form ends with a stop id. "
                "Leave one out."
            )

    def _check(self, name: str, low: float, high: float, *, is_whole: bool = False, note: str = "") -> None:
        value = getattr(self, name)
        if not _is_number(value, is_whole=is_whole) or not low <= value <= high:
            kind = "whole number" if is_whole else "number"
            raise RequestError(f"{name}={value!r} is out of range. Give a {kind} from {low} to {high}{note}.")


def _json(schema: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(schema), ensure_ascii=False)
    except RecursionError:
        raise RequestError("json_schema is nested too deeply. Give a simpler one.") from None
    except (TypeError, ValueError) as problem:
        raise RequestError(f"json_schema={schema!r:.80} cannot be written as JSON: {problem}.") from None


def _is_number(value: object, *, is_whole: bool = False) -> bool:
    return isinstance(value, int if is_whole else int | float) and not isinstance(value, bool)
