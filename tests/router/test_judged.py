"""Judged rows: both forms, and an error with file and line for anything else."""

from pathlib import Path
from typing import Any

import pytest
from tests.router.conftest import judged_questions, write_lines

from malmoi.core.errors import DataError
from malmoi.router.judged import is_held_out, read_judged, split
from malmoi.router.question import Question


def read_one(tmp_path: Path, row: Any) -> Any:
    [judged] = read_judged([write_lines(tmp_path / "judged.jsonl", [row])])
    return judged


def test_scores_and_preferences_are_one_thing(tmp_path: Path) -> None:
    rows = [
        {"prompt": "왜?", "weak": 0.25, "strong": 1},
        {"prompt": "왜?", "preferred": "weak"},
        {"prompt": "왜?", "preferred": "tie"},
        {"prompt": "왜?", "preferred": "strong", "source": "somebody"},
    ]
    judged = list(read_judged([write_lines(tmp_path / "judged.jsonl", rows)]))
    assert [(one.weak, one.strong) for one in judged] == [(0.25, 1), (1, 0), (0.5, 0.5), (0, 1)]
    assert [one.is_weak_as_good for one in judged] == [False, True, True, False]


def test_a_conversation_is_asked_by_its_last_user(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "짧게."},
        {"role": "user", "content": "안녕?"},
        {"role": "assistant", "content": "네."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "이게 뭐야?"}, {"type": "image", "image": "data:,"}],
        },
    ]
    question = read_one(tmp_path, {"prompt": messages, "weak": 0, "strong": 1}).question
    assert question == Question(text="이게 뭐야?", before="짧게.\n안녕?\n네.", num_turns=2, has_media=True)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": "왜?"}, "It needs prompt, and weak and strong"),
        ({"prompt": "왜?", "weak": 2, "strong": 1}, "weak is 2, not a score"),
        ({"prompt": "왜?", "weak": 0, "strong": "1"}, "strong is '1', not a score"),
        ({"prompt": "왜?", "weak": 0, "strong": float("nan")}, "strong is nan, not a score"),
        ({"prompt": "왜?", "preferred": "chosen"}, "preferred is 'chosen'"),
        ({"prompt": 7, "weak": 0, "strong": 1}, "the prompt is of the type int"),
        ({"prompt": [], "weak": 0, "strong": 1}, "the conversation is empty"),
        ({"prompt": ["왜?"], "weak": 0, "strong": 1}, "message 0 is '왜?', not a mapping"),
    ],
)
def test_a_row_of_another_form_is_an_error_with_its_line(tmp_path: Path, row: Any, told: str) -> None:
    good = {"prompt": "왜?", "weak": 0, "strong": 1}
    path = write_lines(tmp_path / "judged.jsonl", [good, row])
    with pytest.raises(DataError, match=r"judged\.jsonl:2: ") as raised:
        list(read_judged([path]))
    assert told in str(raised.value)


def test_one_question_is_never_on_both_sides() -> None:
    judged = judged_questions(500)
    learned, held_out = split([*judged, *judged], permille=300)
    assert {one.question.text for one in learned}.isdisjoint(one.question.text for one in held_out)
    assert 0.2 < len(held_out) / (2 * len(judged)) < 0.4


def test_what_is_held_out_stays_so() -> None:
    """The hash is part of the format: another one would move rows that a router has learned from."""
    held_out = [number for number in range(20) if is_held_out(Question(text=f"질문 {number}"), permille=200)]
    assert held_out == [0, 1, 2, 17, 18]
