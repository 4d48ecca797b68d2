"""A report: its figures one by one, and an honest sentence."""

from dataclasses import replace
from html import escape

import numpy as np
import pytest
from tests.router.conftest import judged_questions

from malmoi.core.errors import DataError
from malmoi.router.cost import Cost
from malmoi.router.page import as_html
from malmoi.router.plot import draw
from malmoi.router.report import report
from malmoi.router.router import Router
from malmoi.router.tables import tables
from malmoi.router.training import Dial, train_router

FRESH = judged_questions(400, seed=1)


def test_the_threshold_gives_what_it_gives_one_by_one(router: Router) -> None:
    found = report(router, FRESH).at_threshold
    is_weak = [router.decide(one.question).is_weak for one in FRESH]
    scores = [one.weak if easy else one.strong for easy, one in zip(is_weak, FRESH, strict=True)]
    assert found.num == 400
    assert found.score == pytest.approx(np.mean(scores))
    assert found.strong_share == pytest.approx(1 - np.mean(is_weak))
    assert found.cost_share == pytest.approx(found.strong_share)  # the weak one is free


def test_cost_is_what_tokens_cost_on_the_model_that_answered() -> None:
    cost = Cost(weak=0.25, strong=1.0, answer_tokens=50)
    router = train_router(judged_questions(600), dial=Dial(kind="strong-share", value=0.5), cost=cost)
    prices = [cost.weak if router.decide(one.question).is_weak else cost.strong for one in FRESH]
    sizes = [cost.size(one.question) for one in FRESH]
    expected = np.dot(prices, sizes) / (cost.strong * np.sum(sizes))
    assert report(router, FRESH).at_threshold.cost_share == pytest.approx(expected)


def test_each_language_is_reported_by_itself(router: Router) -> None:
    english = [replace(one, question=replace(one.question, text="How are you doing?")) for one in FRESH[:10]]
    found = report(router, [*FRESH, *english]).by_language
    assert {name: one.num for name, one in found.items()} == {"ko": 400, "en": 10}


def test_a_router_that_knows_is_called_better_and_one_that_guesses_is_not(router: Router) -> None:
    assert report(router, FRESH).verdict.startswith("The router is better than chance")
    draws = np.random.default_rng(0)
    shuffled = [
        replace(one, weak=other.weak) for one, other in zip(FRESH, draws.permutation(FRESH), strict=True)
    ]
    assert "NOT shown to be better than chance" in report(router, shuffled).verdict
    upside_down = [replace(one, weak=1 - one.weak) for one in FRESH]
    assert "WORSE than chance" in report(router, upside_down).verdict


def test_where_the_weak_model_is_the_better_one_the_report_says_so(router: Router) -> None:
    swapped = [replace(one, weak=one.strong, strong=one.weak) for one in FRESH]
    found = report(router, swapped)
    assert found.verdict.startswith("The strong model is not the better one on these rows")
    assert [row[0] for row in tables(found)[2].rows] == ["score over chance, mean"]


def test_bins_hold_every_question_once(router: Router) -> None:
    found = report(router, FRESH)
    assert sum(one.num for one in found.bins) == 400
    share = sum(one.num * one.found for one in found.bins) / 400
    assert share == pytest.approx(np.mean([one.is_weak_as_good for one in FRESH]))
    assert found.calibration_error < 0.1


def test_no_rows_are_an_error(router: Router) -> None:
    with pytest.raises(DataError, match="no judged rows"):
        report(router, [])


def test_the_page_holds_the_picture_and_every_figure(router: Router) -> None:
    found = report(router, FRESH)
    page = as_html(found, "<router>")
    assert "<h1>&lt;router&gt;</h1>" in page
    assert "data:image/png;base64," in page
    assert "http" not in page
    for table in tables(found):
        for row in table.rows:
            assert all(f"<td>{escape(cell)}" in page for cell in row)


def test_the_picture_is_a_png(router: Router) -> None:
    assert draw(report(router, FRESH[:30])).startswith(b"\x89PNG")


def test_a_report_does_not_depend_on_the_order_of_its_rows(router: Router) -> None:
    one, other = report(router, FRESH), report(router, FRESH[::-1])
    assert one.at_threshold.score == pytest.approx(other.at_threshold.score)
    assert one.curve.at(0.5) == pytest.approx(other.curve.at(0.5), abs=0.01)
