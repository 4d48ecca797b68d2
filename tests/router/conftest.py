"""Judged questions of two kinds: greetings, which both models answer, and sums, which the weak one often gets wrong."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from malmoi.router.cost import Cost
from malmoi.router.judged import Judged
from malmoi.router.question import Question
from malmoi.router.router import Router
from malmoi.router.training import Dial, train_router

GREETINGS = ("안녕?", "반가워", "잘 지냈어?", "좋은 아침이야", "고마워", "또 봐", "뭐 해?", "잘 자")
PER_CALL = Cost(unit="call")


def judged_questions(num: int, *, seed: int = 0) -> list[Judged]:
    """Half greetings, which the weak model fails one in ten of, half sums, of which it fails nine in ten."""
    draws = random.Random(seed)
    rows = []
    for _ in range(num):
        is_hard = draws.random() < 0.5
        sum_ = f"{draws.randrange(1000)} 더하기 {draws.randrange(1000)}을 계산해 줘"
        text = (
            sum_
            if is_hard
            else f"{draws.choice(GREETINGS)} {draws.choice(GREETINGS)} {draws.randrange(10_000)}호"
        )
        fails = draws.random() < (0.9 if is_hard else 0.1)
        rows.append(Judged(question=Question(text=text), weak=float(not fails), strong=1.0))
    return rows


def write_judged(path: Path, rows: Sequence[Judged]) -> str:
    lines = [{"prompt": row.question.text, "weak": row.weak, "strong": row.strong} for row in rows]
    return write_lines(path, lines)


def write_lines(path: Path, rows: Sequence[Any]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def router() -> Router:
    """One that asks for half of the calls."""
    return train_router(judged_questions(600), dial=Dial(kind="strong-share", value=0.5), cost=PER_CALL)


@pytest.fixture(scope="session")
def make_router() -> Callable[..., Router]:
    def make(dial: Dial, cost: Cost = PER_CALL) -> Router:
        return train_router(judged_questions(600), dial=dial, cost=cost)

    return make
