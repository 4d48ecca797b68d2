"""Beam search: several beginnings of an answer go on at a time, and the likeliest whole answers are kept.

    each beam -> Continuations (sampling) -> BEAM SEARCH: of all of them the best -> the scheduler forks, ends, goes on

A beam is a `Generation` like any other: it takes a place among those that run, shares blocks with those that begin as
it does, and may be preempted; a search only waits until each of its beams has said how it may go on. No tensors here.
Read next: `Scheduler._advance`, which does what is decided here.
"""

from collections.abc import Sequence
from typing import NamedTuple

from malmoi.engine.request import Choice, FinishReason, Generation


class Step(NamedTuple):
    """A beam that goes on, with which token, and the log-probabilities of all of its tokens, added up."""

    beam: Generation
    choice: Choice
    total: float


class Found(NamedTuple):
    """A whole answer, and what it is ranked by."""

    score: float
    generation: Generation
    reason: FinishReason


class BeamSearch:
    """The likeliest answers to one request (Sutskever et al. 2014, arXiv:1409.3215, section 3.2).

    In each step, those of the `beam_width` best continuations of all beams that end are kept as found, and the
    `beam_width` best that do not end go on. An answer's score is the sum of its tokens' log-probabilities over its
    length to the power of `length_penalty`, the stop id counted, so that longer answers can win against shorter ones.
    It is over when nothing can go on, or `beam_width` answers are found and `early_stopping` says that it is enough.

    *Our difference*: the paper lets its beam shrink with each answer that it finds; as in `transformers`, whose results
    these are, here as many go on as before.

    Attributes:
        answers: what was asked for, filled in at the end: the best answer, and its siblings in their order.
        beams: those that go on, with their totals; a single one while the prompt is computed.
        found: the best whole answers, best first, at most `beam_width`.

    >>> from malmoi.engine import Request, SamplingParams
    >>> from malmoi.engine.request import Continuations
    >>> request = Request(tokens=[5], params=SamplingParams(beam_width=2), stop_ids=frozenset({0}))
    >>> search = BeamSearch([Generation(request)], max_tokens=10)
    >>> [beam] = search.beams
    >>> beam.continuations = Continuations((Choice(0), Choice(7), Choice(8)), (-0.5, -1.5, -2.0))
    >>> [(step.choice.token, step.total) for step in search.advance()], [found.score for found in search.found]
    ([(7, -1.5), (8, -2.0)], [-0.5])
    """

    def __init__(self, answers: Sequence[Generation], *, max_tokens: int) -> None:
        self.answers, self.max_tokens = tuple(answers), max_tokens
        self.params = answers[0].request.params
        first = answers[0].branch()
        first.search = self
        self.beams: dict[Generation, float] = {first: 0.0}
        self.found: list[Found] = []

    @property
    def is_ready(self) -> bool:
        """Whether all beams know how they may go on."""
        return all(beam.continuations is not None for beam in self.beams)

    def advance(self) -> list[Step]:
        """Decide who goes on, best first; nobody: the search is over (mutates what is found; `beams` stay).

        Ask `is_ready` first.
        """
        steps: list[Step] = []
        for place, step in enumerate(self._candidates()):
            if reason := self._finish_reason(step):
                if place < self.params.beam_width:
                    self._keep(step, reason)
            elif len(steps) < self.params.beam_width:
                steps.append(step)
        self.found = sorted(self.found, key=lambda found: -found.score)[: self.params.beam_width]
        return [] if self._is_over(steps) else steps

    def why_too_few(self) -> str:
        """What to say to those who get no answer."""
        return (
            f"beam_width={self.params.beam_width} has found {len(self.found)} answers, and n={self.params.n} were "
            "asked for: penalties, logit_bias, min_tokens and what the request's rule (a grammar, a script lock) "
            "allows leave no other. Ask for fewer, or forbid less."
        )

    def _candidates(self) -> list[Step]:
        each = [
            Step(beam, choice, total + logprob)
            for beam, total in self.beams.items()
            for choice, logprob in _ways(beam)
        ]
        return sorted(each, key=lambda step: -step.total)

    def _finish_reason(self, step: Step) -> FinishReason | None:
        if step.beam.request.is_end(step.choice.token):
            return "stop"
        return "length" if len(step.beam.choices) + 1 == self.max_tokens else None

    def _keep(self, step: Step, reason: FinishReason) -> None:
        whole = step.beam.branch()
        whole.append(step.choice)
        self.found.append(Found(self._score(step.total, len(whole.choices)), whole, reason))

    def _score(self, total: float, num_tokens: int) -> float:
        score: float = total / num_tokens**self.params.length_penalty
        return score

    def _is_over(self, steps: Sequence[Step]) -> bool:
        if not steps:
            return True
        if len(self.found) < self.params.beam_width:
            return False
        if self.params.early_stopping is True:
            return True
        hopes_for_length = self.params.early_stopping == "never" and self.params.length_penalty > 0
        num_tokens = self.max_tokens if hopes_for_length else len(steps[0].beam.choices) + 1
        return self._score(steps[0].total, num_tokens) <= self.found[-1].score


def _ways(beam: Generation) -> list[tuple[Choice, float]]:
    """The tokens that it may go on with, likeliest first; where ends are alike, one of those."""
    ways = list(zip(*(beam.continuations or ((), ())), strict=True))
    if not beam.request.ends_alike:
        return ways
    first_end = next((way for way in ways if beam.request.is_end(way[0].token)), None)
    return [way for way in ways if way is first_end or not beam.request.is_end(way[0].token)]
