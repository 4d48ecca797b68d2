"""A rule says which tokens may come next, for its own request alone, wherever and however often that is computed."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from malmoi.core.errors import RequestError
from malmoi.engine import Engine, Generation, LogitsRule, Request, SamplingParams
from malmoi.engine.request import Failure
from malmoi.engine.rules import AllOf, AnyOf
from malmoi.engine.sampling import sample
from malmoi.testing.models import VOCAB_SIZE, tiny_llama


class Steps(LogitsRule):
    """Each token is larger than the one before, by `most` at most; `dead_end` has no successor."""

    def __init__(self, most: int = 9, *, last: int = 0, dead_end: int = VOCAB_SIZE - 1) -> None:
        self.most, self.last, self.dead_end = most, last, dead_end

    def allowed(self) -> Tensor:
        if self.last >= self.dead_end:
            raise RequestError("there is nothing larger. Begin with less.")
        ids = torch.arange(VOCAB_SIZE)
        return (ids > self.last) & (ids <= self.last + self.most)

    def advance(self, token: int) -> None:
        self.last = token

    def copy(self) -> "Steps":
        return Steps(self.most, last=self.last, dead_end=self.dead_end)


class Anything(LogitsRule):
    def allowed(self) -> None:
        return None

    def advance(self, token: int) -> None:
        pass

    def copy(self) -> "Anything":
        return self


def request(rule: LogitsRule | None, prompt: Iterable[int] = (5, 6), **params: Any) -> Request:
    return Request(tokens=tuple(prompt), rule=rule, params=SamplingParams(**{"max_tokens": 12, **params}))


def run(engine: Engine, *requests: Request) -> list[Generation]:
    generations = [engine.add(one) for one in requests]
    while any(generation.finish_reason is None for generation in generations):
        engine.step()
    return generations


def climbs(tokens: list[int], most: int = 9) -> bool:
    return all(before < after <= before + most for before, after in zip([0, *tokens], tokens, strict=False))


@pytest.mark.parametrize(
    "params", [{"temperature": 0}, {"seed": 1, "temperature": 5}, {"seed": 2, "top_k": 3}]
)
def test_every_token_is_one_that_the_rule_allows(params: dict[str, Any]) -> None:
    [generation] = run(Engine(tiny_llama()), request(Steps(), **params))
    assert climbs(generation.tokens)
    assert len(generation.tokens) == 12


def test_a_request_may_be_answered_again_because_its_rule_stays_as_it_is() -> None:
    engine, asked = Engine(tiny_llama()), request(Steps(), seed=1)
    first, second = run(engine, asked, asked)
    assert first.tokens == second.tokens == run(engine, asked)[0].tokens


def test_a_rule_holds_for_its_request_alone() -> None:
    engine = Engine(tiny_llama())
    asked = [
        request(Steps(), seed=1),
        request(None, seed=2),
        request(Steps(2), seed=3),
        request(Anything(), seed=2),
    ]
    ruled, free, tight, also_free = run(engine, *asked)
    assert climbs(ruled.tokens)
    assert climbs(tight.tokens, most=2)
    assert free.tokens == also_free.tokens == run(engine, asked[1])[0].tokens


def test_a_fresh_rule_that_is_shown_the_tokens_allows_the_same() -> None:
    [generation] = run(Engine(tiny_llama()), request(Steps(), seed=1))
    fresh = Steps()
    for token in generation.tokens:
        fresh.advance(token)
    assert generation.rule is not None
    assert torch.equal(fresh.allowed(), generation.rule.allowed())  # type: ignore[arg-type]


def test_preemption_does_not_set_a_rule_back() -> None:
    engine, undisturbed = Engine(tiny_llama()), run(Engine(tiny_llama()), request(Steps(), seed=1))[0]
    generation = engine.add(request(Steps(), seed=1))
    while generation.finish_reason is None:
        engine.step()
        engine.refresh()
    assert generation.tokens == undisturbed.tokens


def test_a_rule_without_a_way_on_ends_its_request_alone_and_says_why() -> None:
    engine = Engine(tiny_llama())
    stuck, free = run(engine, request(Steps(1, dead_end=3), seed=1), request(None, seed=2))
    assert (stuck.tokens, stuck.finish_reason) == ([1, 2, 3], "error")
    assert stuck.error == "there is nothing larger. Begin with less."
    assert free.tokens == run(engine, request(None, seed=2))[0].tokens
    assert engine.scheduler.num_blocks_in_use == 0


@pytest.mark.parametrize(
    "params",
    [{"logit_bias": dict.fromkeys(range(1, 10), -100)}, {"min_tokens": 1}],
    ids=["logit_bias", "min_tokens"],
)
def test_a_rule_that_contradicts_the_other_parameters_ends_its_request_alone(params: dict[str, Any]) -> None:
    asked = Request(
        tokens=[5], rule=Steps(), params=SamplingParams(**params), stop_ids=frozenset(range(1, 10))
    )
    stuck, free = sample(torch.zeros(2, VOCAB_SIZE), [Generation(asked), Generation(request(None, seed=1))])
    assert isinstance(stuck, Failure)
    assert "logit_bias, min_tokens and what the request's rule" in stuck.message
    assert [free] == sample(torch.zeros(1, VOCAB_SIZE), [Generation(request(None, seed=1))])


def test_all_of_several_rules_hold_and_a_copy_goes_its_own_way() -> None:
    rule = AllOf([Steps(4), Anything(), Steps(2)])
    rule.advance(10)
    copy = rule.copy()
    copy.advance(100)
    assert rule.allowed().nonzero().flatten().tolist() == [11, 12]  # type: ignore[union-attr]
    assert copy.allowed().nonzero().flatten().tolist() == [101, 102]  # type: ignore[union-attr]
    assert AllOf([Anything()]).allowed() is None


def test_each_of_several_answers_to_one_request_goes_by_the_rule_from_its_beginning() -> None:
    engine = Engine(tiny_llama())
    [first] = run(engine, request(Steps(), seed=1, n=3))
    while any(sibling.finish_reason is None for sibling in first.siblings):
        engine.step()
    answers = [first.tokens, *(sibling.tokens for sibling in first.siblings)]
    assert all(map(climbs, answers))
    assert len({tuple(tokens) for tokens in answers}) == 3


def test_any_of_several_rules_is_enough_and_one_that_is_stuck_is_asked_no_more() -> None:
    either = AnyOf([Steps(1, dead_end=3), Steps(2, last=100)])
    assert [token for token in range(VOCAB_SIZE) if either.allowed()[token]] == [1, 101, 102]
    before = either.copy()
    for token in (1, 2, 3):
        either.advance(token)
    assert [token for token in range(VOCAB_SIZE) if either.allowed()[token]] == [4, 5]
    assert [token for token in range(VOCAB_SIZE) if before.allowed()[token]] == [1, 101, 102]
    assert AnyOf([Steps(), Anything()]).allowed() is None
    with pytest.raises(RequestError, match="nothing larger"):
        AnyOf([Steps(last=VOCAB_SIZE), Steps(last=VOCAB_SIZE)]).allowed()
