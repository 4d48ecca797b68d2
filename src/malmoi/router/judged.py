"""Judged requests: what the weak model scored, and what the strong one did, on the same question.

    {"prompt": "...", "weak": 1, "strong": 1}           scores from 0 to 1, of any judge
    {"prompt": [...], "preferred": "weak"}              or "strong", or "tie": which answer somebody liked better

    JSONL -> JUDGED -> training.py | curve.py

A prompt is a text or a list of messages. Which rows are held out is told by a hash of the question, so the same one is
never on both sides. Read next: `training.py`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from malmoi.core.errors import DataError, TemplateError
from malmoi.data.files import Row, find_files, read_rows
from malmoi.router.question import Question, question_of

_SCORES = {"weak": (1.0, 0.0), "strong": (0.0, 1.0), "tie": (0.5, 0.5)}
"""What a preference says of both, as scores: a mean of them is a share of wins, a tie half a win for each."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A question and what both models scored, 0 to 1."""

    question: Question
    weak: float
    strong: float

    @property
    def is_weak_as_good(self) -> bool:
        return self.weak >= self.strong


def read_judged(paths: Iterable[str | Path]) -> Iterator[Judged]:
    """The judged rows of files, directories and globs.

    Raises:
        DataError: a file cannot be read, or a row is of neither form; with file and line.
    """
    for path in paths:
        for file in find_files(path):
            for row in read_rows(file):
                yield judged_of(row)


def judged_of(row: Row) -> Judged:
    """A row as what it says. Raises DataError for one of neither form.

    >>> judged = judged_of(Row({"prompt": "1 더하기 1은?", "preferred": "tie"}, "judged.jsonl:1"))
    >>> judged.weak, judged.strong, judged.is_weak_as_good
    (0.5, 0.5, True)
    """
    match row.fields:
        case {"prompt": prompt, "weak": weak, "strong": strong}:
            scores = _score(row, "weak", weak), _score(row, "strong", strong)
        case {"prompt": prompt, "preferred": "weak" | "strong" | "tie" as preferred}:
            scores = _SCORES[preferred]
        case {"prompt": _, "preferred": preferred}:
            raise DataError(f'{row.where}: preferred is {preferred!r:.40}. Write "weak", "strong" or "tie".')
        case fields:
            raise DataError(
                f"{row.where}: the row has the keys {', '.join(map(str, fields)):.80}. It needs prompt, and weak and "
                "strong (scores from 0 to 1), or prompt and preferred."
            )
    return Judged(question=_question(row, prompt), weak=scores[0], strong=scores[1])


def is_held_out(question: Question, *, permille: int) -> bool:
    """Whether a question is among the `permille` of all that are never learned from, by a hash that no run changes."""
    said = f"{question.before}\0{question.text}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest()) % 1000 < permille


def split(judged: Sequence[Judged], *, permille: int) -> tuple[list[Judged], list[Judged]]:
    """The rows to learn from, and those that are held out."""
    parts: tuple[list[Judged], list[Judged]] = [], []
    for one in judged:
        parts[is_held_out(one.question, permille=permille)].append(one)
    return parts


def _score(row: Row, name: str, value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise DataError(f"{row.where}: {name} is {value!r:.40}, not a score. Give a number from 0 to 1.")
    return float(value)


def _question(row: Row, prompt: Any) -> Question:
    if isinstance(prompt, str):
        return Question(text=prompt)
    if not isinstance(prompt, list):
        raise DataError(
            f"{row.where}: the prompt is of the type {type(prompt).__name__}. Give a text, or a list of messages."
        )
    try:
        return question_of(prompt, has_tools=_has_tools(row.fields))
    except TemplateError as error:
        raise DataError(f"{row.where}: {error}") from None


def _has_tools(fields: Mapping[str, Any]) -> bool:
    return bool(fields.get("tools"))
