"""Guesses what comes next, so that one step of the model can give several tokens: speculative decoding.

    ids -> Drafter -> draft -> Scheduler.draft (room) -> Runner: a token drawn behind each id -> Scheduler.update

A step that decodes reads all weights for one token a request; beside that, a few more tokens cost little. The model
looks at the guesses in the step in which it looks at the last id, and those that are right need no step of their own.
Read next: `Scheduler.update`, which decides; `draft_model.py`, a smaller model that guesses.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from malmoi.core.errors import ConfigError
from malmoi.engine.request import Generation


class Drafter(ABC):
    """Says what may come next. What it says changes how fast an answer comes, never the answer.

    Leviathan et al. 2022 (arXiv:2211.17192, section 2.3) accept a guess x, drawn from q, with probability
    min(1, p(x) / q(x)), and draw from what is left of p if not: the answer has the model's distribution. *Our
    difference*: the token behind every id is drawn as always, by the number that is the request's own for it, and the
    guess is accepted if it is that token. So not only the distribution stays, but each answer, at any temperature, with
    any penalty, rule and seed. For a sure guess (q(x) = 1) both accept with probability p(x). Of a model that guesses,
    who draws by the same numbers agrees often, at most as often as theirs, which is best possible.

    `vocab_size` is that of the model that guesses, None if there is none; `num_bytes` what it takes, with its cache.
    """

    vocab_size: int | None = None

    @property
    def num_bytes(self) -> int:
        return 0

    @abstractmethod
    def propose(self, limits: Mapping[Generation, int]) -> Mapping[Generation, Sequence[int]]:
        """What may follow the ids of each generation, at most so many tokens; nothing for those it does not name.

        Only looks at them. Of what it says, as much is tried as there is room for.
        """


class PromptLookup(Drafter):
    """What followed the last few tokens where they stood before (Saxena 2023, "Prompt Lookup Decoding").

    Summaries, edits of a text, code and quotations repeat what was said. The longest of the last `ngram` tokens that
    stands somewhere before counts, and of several places the last one. Where the guess reaches the end, it goes on
    with its own beginning: "1 2 1 2" is followed by "1 2 1 2 1 2". No model is asked; a token costs `ngram` entries in
    a table, of memory, too. Raises ConfigError for numbers below 1.

    >>> from malmoi.engine import Request
    >>> lookup = PromptLookup(num_tokens=3)
    >>> generation = Generation(Request(tokens=[7, 8, 9, 5, 7, 8]))
    >>> lookup.propose({generation: 10})[generation]
    [9, 5, 7]
    """

    def __init__(self, *, num_tokens: int = 4, ngram: int = 3) -> None:
        if num_tokens < 1 or ngram < 1:
            raise ConfigError(f"{num_tokens=} and {ngram=} are each 1 or more. Give None for no speculation.")
        self.num_tokens, self.ngram = num_tokens, ngram
        self._indices: WeakKeyDictionary[Generation, _Index] = WeakKeyDictionary()

    def propose(self, limits: Mapping[Generation, int]) -> dict[Generation, list[int]]:
        drafts = {}
        for generation, limit in limits.items():
            ids = generation.ids
            if (index := self._indices.get(generation)) is None:
                index = self._indices[generation] = _Index(self.ngram)
            if (place := index.find(ids)) is not None:
                period = len(ids) - place
                drafts[generation] = [ids[place + i % period] for i in range(min(self.num_tokens, limit))]
        return drafts


class _Index:
    """Where each run of up to `ngram` tokens of a growing sequence was last followed by another."""

    def __init__(self, ngram: int) -> None:
        self.ngram = ngram
        self.places: dict[tuple[int, ...], int] = {}
        self.num_seen = 0

    def find(self, ids: Sequence[int]) -> int | None:
        """The place behind the last run that is as the end of `ids` (mutates: takes in what is new)."""
        for place in range(max(1, self.num_seen), len(ids)):
            for length in range(1, min(self.ngram, place) + 1):
                self.places[tuple(ids[place - length : place])] = place
        self.num_seen = len(ids)
        ends = (tuple(ids[-length:]) for length in range(min(self.ngram, len(ids)), 0, -1))
        return next((self.places[end] for end in ends if end in self.places), None)


@dataclass
class DraftCounts:
    """How many tokens were guessed, and how many of them were right."""

    num_proposed: int = 0
    num_accepted: int = 0


class Trial:
    """Whether guessing pays, here and now, by the clock: `speculation="auto"`.

    For `length` pairs of steps it is on and off in turn, then what gave more tokens a second stays for `pause` steps,
    and it is tried again, for other requests may have come. Only steps count in which all decode.

    >>> trial = Trial(length=1, pause=2)
    >>> for seconds, num_tokens in ((0.3, 4), (0.1, 2)):    # on: 13 tokens a second, off: 20
    ...     trial.note(seconds, num_tokens)
    >>> trial.is_on
    False
    """

    def __init__(self, *, length: int = 32, pause: int = 512) -> None:
        self.length, self.pause = length, pause
        self.is_on = True
        self._num_left = 0  # steps until it is tried again
        self._begin()

    def note(self, seconds: float, num_tokens: int) -> None:
        """Take what a step has brought (mutates)."""
        if self._num_left:
            self._num_left -= 1
            return
        self._seconds[self.is_on] += seconds
        self._num_tokens[self.is_on] += num_tokens
        self._num_steps += 1
        self.is_on = not self.is_on
        if self._num_steps == 2 * self.length:
            off, on = (tokens / time for tokens, time in zip(self._num_tokens, self._seconds, strict=True))
            self.is_on, self._num_left = on > off, self.pause
            self._begin()

    def _begin(self) -> None:
        self._num_steps, self._seconds, self._num_tokens = 0, [0.0, 0.0], [0, 0]  # off, on
