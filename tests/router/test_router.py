"""A trained router: what it learns, what it costs, how it is kept."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tests.router.conftest import PER_CALL, judged_questions

from malmoi.core.errors import CheckpointError, ConfigError, DataError
from malmoi.router.cost import Cost
from malmoi.router.question import Question
from malmoi.router.router import MANIFEST, WEIGHTS, Router
from malmoi.router.training import Dial, train_router

EASY, HARD = Question(text="안녕? 반가워 4321호"), Question(text="17 더하기 25를 계산해 줘")


def test_it_learns_which_questions_are_hard(router: Router) -> None:
    assert router.probability(EASY) > 0.8
    assert router.probability(HARD) < 0.3
    assert (router.decide(EASY).is_weak, router.decide(HARD).is_weak) == (True, False)
    assert router.manifest.log_loss < 0.7 * router.manifest.log_loss_of_constant


def test_its_probabilities_are_true_of_questions_that_it_has_not_seen(router: Router) -> None:
    fresh = judged_questions(1000, seed=1)
    said = np.array([router.probability(one.question) for one in fresh])
    found = np.array([one.is_weak_as_good for one in fresh])
    for part in (said < 0.5, said >= 0.5):
        assert said[part].mean() == pytest.approx(found[part].mean(), abs=0.05)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_a_share_of_strong_calls_is_kept_on_questions_that_it_has_not_seen(
    make_router: Callable[..., Router], share: float
) -> None:
    router = make_router(Dial(kind="strong-share", value=share))
    fresh = judged_questions(600, seed=1)
    found = np.mean([not router.decide(one.question).is_weak for one in fresh])
    assert found == pytest.approx(share, abs=0.1 if 0 < share < 1 else 0.02)


def test_quality_is_kept_with_fewer_strong_calls_than_at_random(make_router: Callable[..., Router]) -> None:
    router = make_router(Dial(kind="quality", value=0.9))
    fresh = judged_questions(1000, seed=1)
    is_weak = [router.decide(one.question).is_weak for one in fresh]
    weak, strong = (np.mean([getattr(one, model) for one in fresh]) for model in ("weak", "strong"))
    score = np.mean([one.weak if easy else one.strong for easy, one in zip(is_weak, fresh, strict=True)])
    assert score > 0.88 * strong
    assert 1 - np.mean(is_weak) < 0.75 * (0.9 * strong - weak) / (strong - weak)


def test_the_needed_probability_is_where_the_decision_turns(router: Router) -> None:
    for one in judged_questions(100, seed=2):
        decision = router.decide(one.question)
        assert decision.is_weak == (decision.probability >= decision.needed)


def test_of_two_equally_hard_questions_the_longer_one_has_to_be_harder(
    make_router: Callable[..., Router],
) -> None:
    """Prices are by the token, so a long call saves more on the weak model."""
    router = make_router(Dial(kind="strong-share", value=0.5), Cost(answer_tokens=10))
    short, long = (replace(HARD, before=before) for before in ("", "가" * 5000))
    assert router.decide(long).needed < router.decide(short).needed
    assert router.decide(long).urgency < router.decide(short).urgency


def test_a_question_unlike_all_that_were_judged_is_taken_for_one_at_their_edge(router: Router) -> None:
    """So that a length that nobody has judged does not outweigh everything else."""
    long, longer = (Question(text="왜?", before="가" * size) for size in (10_000, 10_000_000))
    assert router.probability(longer) == pytest.approx(router.probability(long), abs=1e-3)
    assert 0.0 < router.probability(longer) < 1.0


def test_training_twice_gives_the_same_router(router: Router, make_router: Callable[..., Router]) -> None:
    again = make_router(Dial(kind="strong-share", value=0.5))
    assert again.manifest == router.manifest
    assert np.array_equal(again.buckets, router.buckets)


def test_a_router_that_was_saved_decides_the_same(router: Router, tmp_path: Path) -> None:
    router.save(tmp_path / "router")
    loaded = Router.load(tmp_path / "router")
    assert loaded.manifest == router.manifest
    assert loaded.decide(HARD) == router.decide(HARD)
    assert loaded.decide(EASY) == router.decide(EASY)


def break_manifest(**changes: object) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        said = json.loads((directory / MANIFEST).read_text())
        (directory / MANIFEST).write_text(json.dumps(said | changes))

    return change


def break_weights(**changes: np.ndarray) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        save_file(load_file(directory / WEIGHTS) | changes, directory / WEIGHTS)

    return change


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda directory: (directory / MANIFEST).unlink(), "cannot read"),
        (lambda directory: (directory / MANIFEST).write_text("{"), "is not JSON"),
        (
            break_manifest(format="malmoi-router-9"),
            "'malmoi-router-9', and this version reads malmoi-router-1",
        ),
        (break_manifest(features=["hangul"]), "weighs other features"),
        (break_manifest(threshold="high"), "threshold must be float"),
        (break_manifest(threshold=float("nan")), "must be finite"),
        (break_manifest(gap=float("inf")), "must be finite"),
        (break_manifest(gap=0.0), "the gap above 0"),
        (break_manifest(cost={"weak": 1.0, "strong": float("inf")}), "must be finite"),
        (break_manifest(secret=1), "unknown key 'secret'"),
        (lambda directory: (directory / WEIGHTS).unlink(), "No such file"),
        (lambda directory: (directory / WEIGHTS).write_bytes(b"\x80\x04pickle"), "cannot be read"),
        (break_weights(bias=np.zeros(2, dtype=np.float32)), "does not hold the weights of a router"),
        (break_weights(bias=np.array([np.nan], dtype=np.float32)), "does not hold the weights of a router"),
        (break_weights(more=np.zeros(1, dtype=np.float32)), "does not hold the weights of a router"),
    ],
)
def test_a_broken_file_is_a_clear_error(
    router: Router, tmp_path: Path, harm: Callable[[Path], None], told: str
) -> None:
    router.save(tmp_path)
    harm(tmp_path)
    with pytest.raises(CheckpointError) as raised:
        Router.load(tmp_path)
    assert told in str(raised.value)
    assert str(tmp_path) in str(raised.value)


def test_rows_that_teach_nothing_are_refused() -> None:
    rows = judged_questions(600)
    same = [replace(one, weak=1.0) for one in rows]
    with pytest.raises(DataError, match="on all .* rows to learn from the weak model is as good"):
        train_router(same, dial=Dial(), cost=PER_CALL)
    with pytest.raises(DataError, match="Judge more questions"):
        train_router(rows[:20], dial=Dial(), cost=PER_CALL)


@pytest.mark.parametrize("prices", [{"weak": 1.0, "strong": 1.0}, {"weak": -1.0}, {"unit": "letter"}])
def test_prices_that_save_nothing_are_refused(prices: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Cost(**prices)  # type: ignore[arg-type]


@pytest.mark.parametrize("num_characters", [10, 400, 4000])
def test_a_decision_takes_at_most_5_ms(router: Router, num_characters: int) -> None:
    """The median; the best of three, as the machine has other work."""
    question = Question(text=("한국어로 물어보는 긴 글, with some English and 123. " * 100)[:num_characters])
    medians = []
    for _ in range(3):
        seconds = []
        for _ in range(30):
            start = time.perf_counter()
            router.decide(question)
            seconds.append(time.perf_counter() - start)
        medians.append(sorted(seconds)[15])
    assert min(medians) < 0.005
