"""What is asked of the engine, and how far it has come: `Request` and `Generation`.

A request never changes. Its generation does, and only the scheduler changes it; whoever asked may read it at
any time. Read next: `scheduler.py`.
"""

import random
import time
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal, NamedTuple

from malmoi.core.errors import RequestError
from malmoi.engine.blocks import Table
from malmoi.engine.params import SamplingParams
from malmoi.engine.rules import LogitsRule

if TYPE_CHECKING:
    import torch

    from malmoi.engine.search import BeamSearch

FinishReason = Literal["stop", "length", "abort", "error"]
"""Of a generation: a stop id was chosen; `max_tokens` or the end of the context was reached; the caller gave up; no
token could be chosen."""


class Candidate(NamedTuple):
    """A token that could have come next.

    `logprob` is what the model says (log-softmax of its logits); `probability` what the token was drawn with,
    after penalties, bias, temperature and filters: 0 if they cut it off.
    """

    token: int
    logprob: float
    probability: float


class Choice(NamedTuple):
    """A token that was chosen. If the request asked for `logprobs`: its own numbers, and the likeliest tokens'."""

    token: int
    chosen: Candidate | None = None
    top: tuple[Candidate, ...] = ()


class Continuations(NamedTuple):
    """The tokens that a beam may go on with, likeliest first, and the log-probability that each adds to its total.

    None at all: everything is forbidden.
    """

    choices: tuple[Choice, ...]
    logprobs: tuple[float, ...]


class Failure(NamedTuple):
    """Why no token could be chosen, and what to do."""

    message: str


Outcome = Choice | Continuations | Failure
"""What a generation gets where a token was to be chosen."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Attachment:
    """Features that stand in the place of a request's tokens from `start` on, one for each: an image or a sound.

    `features` (P, D) are what `Multimodal.encode` makes, with the weights that the model had then. `digest` tells them
    from all others, so that a prompt with the same image is found in the cache; None: one of the features is made.
    """

    start: int
    features: "torch.Tensor"
    digest: bytes | None = None

    @property
    def end(self) -> int:
        """The first token behind them."""
        return self.start + len(self.features)

    @cached_property
    def content_key(self) -> bytes:
        """What tells its features from others."""
        if self.digest is not None:
            return self.digest
        numbers = self.features.detach().cpu().double().numpy()  # of any precision, without loss
        return blake2b(numbers.tobytes(), digest_size=32).digest()


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """Ids to go on from; kept as tuples. The engine knows no end-of-text: what ends the answer are `stop_ids`.

    `attachments` are in the order in which they stand among `tokens`. `source` is what an encoder reads, for a model
    that has one; `tokens` are then the first of the decoder's. `rule` says which tokens may come next; it stays as it
    is, each generation goes on with a copy. `ends_alike` says that answers which differ in their stop id alone are one,
    and a search finds the likeliest of them. A lower `priority` goes first; what it is worth, and why a higher one
    still has its turn, the scheduler says. Requests share what is cached of a common beginning only if they have the
    same `salt`: give each tenant one.
    """

    tokens: Sequence[int]
    attachments: Sequence[Attachment] = ()
    source: Sequence[int] | None = None
    params: SamplingParams = field(default_factory=SamplingParams)
    stop_ids: frozenset[int] = frozenset()
    rule: LogitsRule | None = None
    ends_alike: bool = False
    priority: int = 0
    salt: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(self.tokens))
        object.__setattr__(self, "attachments", tuple(self.attachments))
        object.__setattr__(self, "stop_ids", frozenset(self.stop_ids))
        if self.source is not None:
            object.__setattr__(self, "source", tuple(self.source))

    @property
    def attached_end(self) -> int:
        """The first token behind all attachments; 0 without any."""
        return self.attachments[-1].end if self.attachments else 0

    def is_end(self, token: int) -> bool:
        """Whether an answer ends with this token."""
        return token in self.stop_ids and not self.params.ignore_eos


class Generation:
    """One request on its way through the engine. Read it; only the scheduler changes it.

    Attributes:
        request: what was asked.
        siblings: the others of the same request, if it asks for `n`. They begin when its prompt has been computed.
        search: of a beam, and of the first answer that it looks for: what it belongs to. Answers that are searched for
            have no tokens before it is over.
        continuations: what a beam may go on with, until all beams of its search know that.
        score: of an answer that was searched for: what it is ranked by (`BeamSearch`).
        ids: the prompt and, after it, what was generated.
        draft: what somebody guesses to come next; in this step the model looks at it, too (`speculate.py`).
        choices: one for each generated token.
        prompt_choices: one for each token of the prompt but the first, if the request asks for `prompt_logprobs`; their
            probability is the model's own.
        finish_reason: None while it goes on.
        error: why no token could be chosen, where that is what ended it.
        num_computed: how many of `ids` have their keys and values in the cache.
        num_cached: how many tokens of the prompt were found in the cache, and not computed for it.
        rank: who goes first: the lower, in all that the scheduler decides.
        tables: the cache blocks that it holds, a table for each group of layers.
        keys: those of its blocks, as far as they were asked for (`prefix.py`).
        state_slot: where its recurrent states are kept, while it runs.
        rule: the request's, in the state to which `tokens` have brought it.
        started_at: when it was added, as `time.perf_counter` says it (seconds).
        token_times: seconds from then to each generated token.
    """

    def __init__(self, request: Request, *, rank: tuple[int, int] = (0, 0), index: int = 0) -> None:
        self.request, self.rank = request, rank
        self.siblings: list[Generation] = []
        self.search: BeamSearch | None = None
        self.continuations: Continuations | None = None
        self.score: float | None = None
        self.ids = list(request.tokens)
        self.draft: list[int] = []
        self.choices: list[Choice] = []
        self.prompt_choices: list[Choice] = []
        self.finish_reason: FinishReason | None = None
        self.error: str | None = None
        self.num_computed = self.num_cached = 0
        self.tables: list[Table] = []
        self.keys: list[bytes] = []
        self.state_slot: int | None = None
        self.rule = None if request.rule is None else request.rule.copy()
        seed = request.params.seed
        self._random = random.Random(None if seed is None else seed + index)
        self._uniforms: list[float] = []
        self.started_at = time.perf_counter()
        self.token_times: list[float] = []

    @property
    def num_pending(self) -> int:
        """How many ids the model has not seen yet: those of the prompt, later one at a time."""
        return len(self.ids) - self.num_computed

    @property
    def uniform(self) -> float:
        """The number in [0, 1) that the next token is drawn by: the i-th by the i-th of a source of its own.

        So neither what runs beside it nor how often a step is computed matters, nor whether the token was guessed.
        """
        while len(self._uniforms) <= len(self.choices):
            self._uniforms.append(self._random.random())
        return self._uniforms[len(self.choices)]

    @property
    def num_source_pending(self) -> int:
        """How many ids the encoder has not read yet: all of its source before the first step, then none."""
        return 0 if self.num_computed else len(self.request.source or ())

    @property
    def is_scoring(self) -> bool:
        """Whether the model still has to say how likely some of the prompt is."""
        is_asked = self.request.params.prompt_logprobs is not False
        return is_asked and len(self.prompt_choices) < len(self.request.tokens) - 1

    @property
    def unborn(self) -> "list[Generation]":
        """The siblings that begin with the next token: those that have none, and whom nobody has given up."""
        return [g for g in self.siblings if not g.choices and g.finish_reason is None]

    @property
    def beams(self) -> "list[Generation]":
        """Those that go on in search of it, and of its siblings."""
        return [] if self.search is None else list(self.search.beams)

    @property
    def tokens(self) -> list[int]:
        """The generated ids, a final stop id included."""
        return self.ids[len(self.request.tokens) :]

    def append(self, choice: Choice) -> None:
        """Add the next token (mutates: the scheduler's business)."""
        self.ids.append(choice.token)
        self.choices.append(choice)
        if self.rule is not None:
            self.rule.advance(choice.token)
        self.token_times.append(time.perf_counter() - self.started_at)

    def after(self, token: int) -> "Generation":
        """What it would be with one more token, for the sampler to look at; it stays as it is.

        >>> generation = Generation(Request(tokens=[5]))
        >>> ahead = generation.after(7)
        >>> generation.append(Choice(7))
        >>> ahead.tokens == generation.tokens, ahead.uniform == generation.uniform
        (True, True)
        """
        ahead = copy(self)  # with the same source of numbers
        ahead.ids, ahead.choices = [*self.ids, token], [*self.choices, Choice(token)]
        if self.rule is not None:
            ahead.rule = self.rule.copy()
            ahead.rule.advance(token)
        return ahead

    def branch(self) -> "Generation":
        """Another of the same request that has come as far, and holds nothing of the cache yet."""
        own = copy(self)
        own.siblings, own.ids, own.choices = [], list(self.ids), list(self.choices)
        own.token_times, own.draft, own.keys, own.tables = list(self.token_times), [], list(self.keys), []
        own.num_computed, own.state_slot, own.continuations = 0, None, None
        own.rule = None if self.rule is None else self.rule.copy()
        return own

    def twin(self, num_tokens: int) -> "Generation":
        """Another that goes on from here for at most `num_tokens`, drawn by the same numbers: for another model.

        It has tokens alone, whatever else was attached to them.
        """
        end = len(self.choices) + num_tokens
        least = min(self.request.params.min_tokens, end)
        own = self.branch()
        own.keys = []  # those of the other model's blocks
        own.request = replace(
            self.request,
            attachments=(),
            params=replace(
                self.request.params,
                n=1,
                max_tokens=end,
                min_tokens=least,
                logprobs=False,
                prompt_logprobs=False,
            ),
        )
        return own

    def become(self, other: "Generation") -> None:
        """Have what `other` has, which is not to go on (mutates: the scheduler's business)."""
        self.ids, self.choices, self.token_times = other.ids, other.choices, other.token_times
        self.prompt_choices, self.num_cached, self.rule = other.prompt_choices, other.num_cached, other.rule

    def raise_if_failed(self) -> None:
        """Raise RequestError if it ended because no token could be chosen."""
        if self.error is not None:
            raise RequestError(self.error)
