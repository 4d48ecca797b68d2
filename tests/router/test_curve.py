"""Curves: their ends, their order, and the measures of RouteLLM worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from malmoi.router.curve import gain_interval, oracle, route
from malmoi.router.judged import Judged
from malmoi.router.question import Question
from malmoi.router.training import Dial, threshold_at

SCORES = st.lists(
    st.tuples(st.sampled_from([0, 0.5, 1]), st.sampled_from([0, 0.5, 1])), min_size=1, max_size=30
)


def judged(scores: list[tuple[float, float]]) -> list[Judged]:
    return [
        Judged(question=Question(text=str(number)), weak=float(weak), strong=float(strong))
        for number, (weak, strong) in enumerate(scores)
    ]


def urgencies(num: int) -> np.ndarray:
    return np.random.default_rng(0).random(num)


@given(SCORES)
def test_a_curve_begins_with_the_weak_model_and_ends_with_the_strong_one(
    scores: list[tuple[float, float]],
) -> None:
    curve = route(judged(scores), urgencies(len(scores)))
    assert (curve.shares[0], curve.shares[-1]) == (0, pytest.approx(1))
    assert curve.weak == pytest.approx(np.mean([weak for weak, _ in scores]))
    assert curve.strong == pytest.approx(np.mean([strong for _, strong in scores]))


@given(SCORES)
def test_no_router_beats_the_oracle_at_any_share(scores: list[tuple[float, float]]) -> None:
    rows = judged(scores)
    assert (oracle(rows).scores >= route(rows, urgencies(len(rows))).scores - 1e-12).all()


@given(SCORES)
def test_each_point_is_the_score_of_the_models_that_it_names(scores: list[tuple[float, float]]) -> None:
    """A slow twin: at each number of strong calls, the answers one by one."""
    urgency = urgencies(len(scores))
    curve = route(judged(scores), urgency)
    order = sorted(range(len(scores)), key=lambda number: -urgency[number])
    for num_strong, score in enumerate(curve.scores):
        went = set(order[:num_strong])
        told = [strong if number in went else weak for number, (weak, strong) in enumerate(scores)]
        assert score == pytest.approx(np.mean(told))


def test_the_measures_of_four_questions() -> None:
    """Hardest first: the score goes 0.5, 0.75, 1, 1, 1, so the gap of 0.5 is recovered by 0, 1/2, 1, 1, 1."""
    rows = judged([(0, 1), (0, 1), (1, 1), (1, 1)])
    curve = route(rows, np.array([4.0, 3.0, 2.0, 1.0]))
    assert curve.scores.tolist() == [0.5, 0.75, 1, 1, 1]
    assert curve.performance_gap_recovered == pytest.approx((0.25 + 0.75 + 1 + 1) / 4)
    assert (curve.share_to_recover(0.5), curve.share_to_recover(0.95)) == (0.25, 0.5)
    assert curve.share_for(0.5) == 0
    assert curve.gain_over_chance == pytest.approx(0.875 - 0.75)


def test_a_router_that_knows_nothing_recovers_half_on_average() -> None:
    rows = judged([(0, 1), (1, 1)] * 200)
    draws = np.random.default_rng(1)
    gaps = [route(rows, draws.random(400)).performance_gap_recovered for _ in range(100)]
    assert np.mean(gaps) == pytest.approx(0.5, abs=0.02)


def test_where_the_strong_model_is_not_better_there_is_no_gap_to_recover() -> None:
    assert math.isnan(route(judged([(1, 0), (1, 1)]), urgencies(2)).performance_gap_recovered)


def test_a_share_counts_only_where_the_score_stays() -> None:
    rows = judged([(0, 1), (1, 0), (0, 1)])
    curve = route(rows, np.array([3.0, 2.0, 1.0]))
    assert curve.scores.tolist() == pytest.approx([1 / 3, 2 / 3, 1 / 3, 2 / 3])
    assert curve.share_for(2 / 3) == pytest.approx(1)


def test_the_interval_holds_the_gain_and_shrinks_with_more_questions() -> None:
    draws = np.random.default_rng(0)
    widths = []
    for num in (100, 1600):
        is_hard = draws.random(num) < 0.5
        rows = judged([(0 if hard else 1, 1) for hard in is_hard])
        urgency = is_hard + draws.normal(size=num)
        low, high = gain_interval(rows, urgency)
        assert low < route(rows, urgency).gain_over_chance < high
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.35)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.floats(0, 1))
def test_a_threshold_sends_at_least_the_share_and_splits_no_equals(values: list[int], share: float) -> None:
    urgency = np.array(values, dtype=np.float64)
    num_strong = int((urgency > threshold_at(urgency, share)).sum())
    wanted = math.ceil(share * len(values) - 1e-9)
    assert num_strong >= wanted
    fewer = [(urgency >= value).sum() for value in {*values}] + [0]
    assert num_strong == min(number for number in fewer if number >= wanted)


def test_the_dial_of_quality_asks_for_as_few_strong_calls_as_keep_it() -> None:
    curve = route(judged([(0, 1)] * 5 + [(1, 1)] * 5), np.arange(10, 0, -1).astype(float))
    assert Dial(kind="quality", value=0.8).share(curve) == pytest.approx(0.3)
    assert Dial(kind="strong-share", value=0.4).share(curve) == 0.4
