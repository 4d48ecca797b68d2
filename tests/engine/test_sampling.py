"""What each parameter does to a distribution, as laws, and against `transformers` where both mean the same."""

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from malmoi.engine import Choice, Generation, Request, SamplingParams
from malmoi.engine.penalties import reshape
from malmoi.engine.request import Failure
from malmoi.engine.sampling import draw, sample, weights

VOCAB = 20


def random_logits(seed: int, rows: int = 1) -> Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 3


def generation(prompt: list[int], output: list[int] | None = None, **params: Any) -> Generation:
    made = Generation(Request(tokens=prompt, params=SamplingParams(**params)))
    made.ids += output or []
    return made


def reshaped(logits: Tensor, generation: Generation) -> Tensor:
    """One row after steps 1 to 4."""
    made, failures = reshape(logits[None], [generation])
    assert not failures
    return made[0]


def distribution(logits: Tensor, params: Sequence[SamplingParams]) -> Tensor:
    """The probabilities of the draw."""
    made = weights(logits, params)
    return made / made.sum(dim=-1, keepdim=True)


few = settings(max_examples=25)
seeds = st.integers(0, 10_000)
fractions = st.floats(0.01, 0.99)


@given(seed=seeds)
@few
def test_greedy_takes_the_largest_logit_and_so_does_a_top_k_of_one(seed: int) -> None:
    logits = random_logits(seed)
    for params in ({"temperature": 0}, {"top_k": 1}, {"top_p": 0}, {"min_p": 1}):
        [choice] = sample(logits, [generation([1], **params)])
        assert choice.token == logits.argmax().item(), params


@given(seed=seeds, temperature=st.floats(0.1, 10))
@few
def test_temperature_divides_the_logits(seed: int, temperature: float) -> None:
    logits = random_logits(seed)
    made = distribution(logits, [SamplingParams(temperature=temperature)])
    torch.testing.assert_close(made, (logits / temperature).softmax(-1))


@given(seed=seeds, top_p=fractions)
@few
def test_top_p_keeps_the_smallest_set_that_makes_up_p(seed: int, top_p: float) -> None:
    whole = random_logits(seed).softmax(-1)[0]
    made = distribution(whole.log()[None], [SamplingParams(top_p=top_p)])[0]
    kept = made > 0
    assert whole[kept].sum() >= top_p - 1e-6
    assert whole[kept].sum() - whole[kept].min() < top_p + 1e-6  # without its least likely it is not enough
    assert not kept.all() or top_p > whole.sum() - whole.min() - 1e-6
    if not kept.all():
        assert whole[kept].min() > whole[~kept].max()
    torch.testing.assert_close(made[kept], whole[kept] / whole[kept].sum())


@given(seed=seeds, top_k=st.integers(1, VOCAB))
@few
def test_top_k_keeps_the_k_likeliest(seed: int, top_k: int) -> None:
    logits = random_logits(seed)
    made = distribution(logits, [SamplingParams(top_k=top_k)])[0]
    assert set(made.nonzero().flatten().tolist()) == set(logits[0].topk(top_k).indices.tolist())


@given(seed=seeds, min_p=fractions)
@few
def test_min_p_keeps_what_is_likely_enough_beside_the_likeliest(seed: int, min_p: float) -> None:
    whole = random_logits(seed).softmax(-1)[0]
    made = distribution(whole.log()[None], [SamplingParams(min_p=min_p)])[0]
    is_near = (whole - min_p * whole.max()).abs() < 1e-6
    assert ((made > 0) == (whole >= min_p * whole.max()))[~is_near].all()


def test_tokens_that_are_equally_likely_are_kept_or_cut_together() -> None:
    logits = torch.tensor([[2.0, 1.0, 1.0, 1.0, 0.0]])
    for params in (SamplingParams(top_k=2), SamplingParams(top_p=0.6)):
        assert distribution(logits, [params])[0].gt(0).tolist() == [True, True, True, True, False]


@given(
    seed=seeds,
    temperature=st.floats(0.2, 3),
    top_k=st.integers(1, VOCAB),
    top_p=st.floats(0.05, 0.95),
    min_p=st.floats(0.01, 0.5),
    typical_p=st.floats(0.05, 1),
    repetition_penalty=st.floats(0.5, 2),
    prompt=st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=6),
)
def test_the_distribution_is_that_of_transformers_processors_in_its_order(
    seed: int,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    typical_p: float,
    repetition_penalty: float,
    prompt: list[int],
) -> None:
    from transformers.generation import logits_process as theirs

    scores = random_logits(seed)
    params: dict[str, Any] = {
        "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p,
        "typical_p": typical_p, "repetition_penalty": repetition_penalty,
    }  # fmt: skip
    ours = distribution(reshaped(scores[0], generation(prompt, **params))[None], [SamplingParams(**params)])
    for processor in (
        theirs.RepetitionPenaltyLogitsProcessor(repetition_penalty),
        theirs.TemperatureLogitsWarper(temperature),
        theirs.TopKLogitsWarper(top_k),
        theirs.TopPLogitsWarper(top_p),
        theirs.MinPLogitsWarper(min_p),
        *([theirs.TypicalLogitsWarper(typical_p)] if typical_p < 1 else []),
    ):
        scores = processor(torch.tensor([prompt]), scores)
    torch.testing.assert_close(ours, scores.softmax(-1), rtol=1e-4, atol=1e-6)


@given(
    seed=seeds,
    frequency=st.floats(-2, 2),
    presence=st.floats(-2, 2),
    scope=st.sampled_from(["output", "all"]),
)
@few
def test_frequency_and_presence_penalties_follow_openais_formula(
    seed: int, frequency: float, presence: float, scope: str
) -> None:
    logits, prompt, output = random_logits(seed)[0], [3, 3, 4], [3, 5, 5, 5]
    made = reshaped(
        logits,
        generation(
            prompt, output, frequency_penalty=frequency, presence_penalty=presence, penalty_scope=scope
        ),
    )
    counted = output if scope == "output" else prompt + output
    for token in range(VOCAB):
        count = counted.count(token)
        expected = logits[token].item() - count * frequency - float(count > 0) * presence
        assert made[token].item() == pytest.approx(expected, abs=1e-5)


def test_a_bias_is_added_and_minus_100_forbids_at_any_temperature() -> None:
    logits = random_logits(0)
    likeliest = int(logits.argmax())
    made = reshaped(logits[0], generation([1], logit_bias={likeliest: -100, 7: 2.5}))
    assert made[likeliest] == -math.inf
    assert made[7] == logits[0, 7] + 2.5
    hot = distribution(made[None], [SamplingParams(temperature=100)])
    assert hot[0, likeliest] == 0
    assert (hot > 0).sum() == VOCAB - 1
    for seed in range(50):
        [choice] = sample(logits, [generation([1], seed=seed, temperature=5, logit_bias={likeliest: -100})])
        assert choice.token != likeliest


def test_a_bias_of_100_is_always_taken() -> None:
    [choice] = sample(random_logits(0), [generation([1], logit_bias={7: 100})])
    assert choice.token == 7


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    probabilities = torch.tensor([0.3, 0.0, 0.05, 0.2, 0.15, 0.0, 0.25, 0.05])
    num_draws, source = 20_000, random.Random(0)
    drawn = draw(probabilities.expand(num_draws, -1), [source.random() for _ in range(num_draws)])
    counts = torch.bincount(torch.tensor(drawn), minlength=8)
    expected = probabilities * num_draws
    assert counts[expected == 0].sum() == 0
    is_possible = expected > 0
    chi_square = ((counts - expected)[is_possible] ** 2 / expected[is_possible]).sum().item()
    assert chi_square < 20.5  # the 99.9th percentile for 6 - 1 degrees of freedom


@given(uniform=st.floats(0, 1, exclude_max=True), seed=seeds)
@few
def test_what_has_no_probability_is_never_drawn(uniform: float, seed: int) -> None:
    probabilities = distribution(random_logits(seed), [SamplingParams(top_k=3)])
    [token] = draw(probabilities, [uniform])
    assert probabilities[0, token] > 0


def test_the_very_last_number_below_one_still_draws_a_token_that_is_possible() -> None:
    assert draw(torch.tensor([[0.7, 0.3, 0.0]]), [math.nextafter(1, 0)]) == [1]


@given(seed=seeds)
@few
def test_each_row_goes_by_its_own_parameters(seed: int) -> None:
    logits = random_logits(seed, rows=4)
    kinds: list[dict[str, Any]] = [
        {"temperature": 0},
        {"seed": 1, "top_k": 3},
        {"seed": 2, "top_p": 0.5, "repetition_penalty": 1.3},
        {"seed": 3, "temperature": 2.0, "min_p": 0.05, "logit_bias": {3: 1.0}},
    ]
    together = sample(logits, [generation([1, 2], **kind) for kind in kinds])
    alone = [
        sample(row[None], [generation([1, 2], **kind)])[0] for row, kind in zip(logits, kinds, strict=True)
    ]
    assert together == alone


MANY = 5_000


@pytest.mark.parametrize("sharpness", [0.0, 0.1, 3.0, 30.0])
def test_no_row_depends_on_another_however_large_the_vocabulary(sharpness: float) -> None:
    logits = torch.randn(12, MANY, generator=torch.Generator().manual_seed(1)) * sharpness
    kinds: list[dict[str, Any]] = [
        {}, {"temperature": 0}, {"top_k": 3}, {"top_k": 4_000, "top_p": 0.3}, {"top_p": 0.5}, {"top_p": 0.999999},
        {"min_p": 0.2}, {"typical_p": 0.4}, {"typical_p": 0.9, "top_p": 0.9}, {"repetition_penalty": 1.5},
        {"frequency_penalty": 1.0, "presence_penalty": -1.0, "penalty_scope": "all"},
        {"logit_bias": {7: 5.0, 8: -100}, "min_tokens": 2},
    ]  # fmt: skip
    generations = [
        generation([1, 2, 2], [3, 3, 7], seed=seed, logprobs=2, **kind) for seed, kind in enumerate(kinds)
    ]
    alone = [sample(row[None], [one])[0] for row, one in zip(logits, generations, strict=True)]
    assert sample(logits, generations) == alone
    assert sample(logits[3:], generations[3:]) == alone[3:]


@pytest.mark.parametrize("sharpness", [0.0, 0.1, 3.0, 30.0])
@pytest.mark.parametrize(
    ("top_p", "top_k"), [(0.1, 0), (0.9, 0), (0.999, 0), (0.9, 40), (0.9, 4_500), (1.0, 40)]
)
def test_the_nucleus_is_that_of_a_full_sort_in_double_precision(
    sharpness: float, top_p: float, top_k: int
) -> None:
    logits = (torch.randn(1, MANY, generator=torch.Generator().manual_seed(2)) * sharpness).double()
    falling = logits.sort(descending=True).values[:, : top_k or MANY]
    cumulative = falling.softmax(-1).cumsum(-1)
    num_kept = int((cumulative < top_p - 1e-12).sum()) + 1 if top_p < 1 else top_k
    made = distribution(logits.float(), [SamplingParams(top_p=top_p, top_k=top_k)])
    lowest = falling[0, num_kept - 1]
    expected = int((logits >= lowest).sum())  # ties stay together
    assert (made > 0).sum().item() == pytest.approx(expected, abs=1 if sharpness else 0)
    assert made.sum().item() == pytest.approx(1, abs=1e-5)


@given(seed=seeds, typical_p=fractions)
@few
def test_typical_keeps_the_fewest_tokens_near_the_expected_surprise(seed: int, typical_p: float) -> None:
    whole = random_logits(seed).double().softmax(-1)[0]
    made = distribution(whole.log()[None].float(), [SamplingParams(typical_p=typical_p)])[0]
    distance = (-whole.log() - (-whole * whole.log()).sum()).abs()
    kept = made > 0
    assert whole[kept].sum() >= typical_p - 1e-5
    assert kept.all() or distance[kept].max() < distance[~kept].min()
    farthest = whole[kept][distance[kept].argmax()]
    assert whole[kept].sum() - farthest < typical_p + 1e-5  # without the farthest it is not enough


def test_no_stop_id_comes_before_min_tokens_however_likely_it_is() -> None:
    logits = random_logits(0)
    likeliest = int(logits.argmax())
    asked = Request(
        tokens=[1], params=SamplingParams(temperature=0, min_tokens=2), stop_ids=frozenset({likeliest})
    )
    drawing, chosen = Generation(asked), []
    for _ in range(3):
        [choice] = sample(logits, [drawing])
        assert isinstance(choice, Choice)
        drawing.append(choice)
        chosen.append(choice.token == likeliest)
    assert chosen == [False, False, True]


@given(seed=seeds)
@few
def test_logprobs_are_the_models_own_and_probabilities_those_of_the_draw(seed: int) -> None:
    logits = random_logits(seed)
    params: dict[str, Any] = {
        "temperature": 0.5, "top_k": 4, "logit_bias": {2: 3.0}, "logprobs": VOCAB, "seed": 5,
    }  # fmt: skip
    [choice] = sample(logits, [generation([1], **params)])
    assert choice.chosen is not None
    assert choice.chosen in choice.top
    expected = logits[0].log_softmax(-1)
    logprobs = [candidate.logprob for candidate in choice.top]
    assert logprobs == sorted(logprobs, reverse=True)
    for candidate in choice.top:
        assert candidate.logprob == pytest.approx(expected[candidate.token].item(), abs=1e-5)
    assert sum(candidate.probability for candidate in choice.top) == pytest.approx(1, abs=1e-5)
    assert sum(candidate.probability > 0 for candidate in choice.top) == 4


def test_asking_for_logprobs_changes_nothing_and_gives_as_many_as_asked() -> None:
    logits = random_logits(3)
    for wanted, num_top in ((False, None), (True, 0), (0, 0), (3, 3), (1000, VOCAB)):
        [choice] = sample(logits, [generation([1], seed=9, logprobs=wanted)])
        [plain] = sample(logits, [generation([1], seed=9)])
        assert choice.token == plain.token
        assert (choice.chosen is None) == (num_top is None)
        assert len(choice.top) == (num_top or 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("params", [{}, {"temperature": 0}, {"logit_bias": {3: -100}}, {"logprobs": 3}])
def test_logits_that_are_not_numbers_fail_in_their_row_alone(bad: float, params: dict[str, Any]) -> None:
    logits = random_logits(0, rows=3)
    logits[1, 3] = bad
    generations = [generation([1], seed=row, **params) for row in range(3)]
    first, failure, last = sample(logits, generations)
    assert isinstance(failure, Failure)
    assert "not finite numbers" in failure.message
    assert [first, last] == sample(logits[[0, 2]], [generations[0], generations[2]])


FORBIDDEN = dict.fromkeys(range(VOCAB), -100)


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize(
    ("largest", "params"),
    [(9, {"logit_bias": FORBIDDEN}), (1e37, {"repetition_penalty": 0.01})],
    ids=["all forbidden", "overflow"],
)
def test_a_row_without_a_token_to_choose_fails_alone(
    largest: float, params: dict[str, Any], temperature: float
) -> None:
    logits = random_logits(0, rows=3)
    logits[1, 1] = largest
    changes = [{}, params, {"logit_bias": {token: -100 for token in FORBIDDEN if token != 7}}]
    generations = [generation([1], seed=1, temperature=temperature, **change) for change in changes]
    first, failure, last = sample(logits, generations)
    assert isinstance(failure, Failure)
    assert "leave no token to choose" in failure.message
    assert [first] == sample(logits[:1], generations[:1])
    assert last == Choice(7)


def test_a_step_that_is_computed_again_draws_the_same_token_and_the_next_one_another_number() -> None:
    logits, drawing = random_logits(0), generation([1], seed=1)
    [choice] = sample(logits, [drawing])
    assert sample(logits, [drawing]) == [choice]
    uniforms = set()
    for _ in range(20):
        uniforms.add(drawing.uniform)
        drawing.append(choice)
    assert len(uniforms) == 20
