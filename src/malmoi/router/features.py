r"""A question as numbers: a few that a reader can name, and its runs of characters, hashed.

    Question -> FEATURES: 21 named numbers, and buckets with counts -> logistic.py, router.py

    "왜 하늘은 파래?"  ->  hangul 0.86, ..., cue why 1;    runs " 왜", "왜 ", " 왜 ", "왜 하", ... -> buckets

All of it is numpy, without a table to load and without a model: a question of 4,000 characters takes a few milliseconds
(`docs/routing.md`). Read next: `router.py`, which weighs them.
"""

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from malmoi.router.question import Question
from malmoi.text.hangul import COMPATIBILITY_JAMO, LEADING, SYLLABLES, TRAILING, VOWELS

BUCKET_BITS = 16
NUM_BUCKETS = 2**BUCKET_BITS
SIZES = (2, 3, 4)
"""How many characters a run has."""
MAX_READ = 100_000
"""Characters of what is asked that are looked at for cues and runs, and by a rule's pattern: the first."""

TOKENS_PER_CHARACTER = {
    "hangul": 0.68,
    "latin": 0.32,
    "digits": 0.72,
    "symbols": 0.80,
    "others": 0.80,
    "spaces": 0.0,
}
"""Of the tokenizer that ships with Malmoi, by least squares over 6,300 texts of `docs/routing.md`."""

CUES = {
    "why": r"왜|이유|까닭|\b(?:why|because|reason)\b",
    "how": r"어떻게|방법|\bhow\b",
    "what": r"무엇|뭐|뭔|누구|언제|어디|\b(?:what|who|when|where)\b",
    "choose": r"인지|고르|골라|중에서?\b|맞으면|아니면|\b(?:which|choose|either)\b",
    "write": r"써\s?줘|써\s?주|작성|지어\s?줘|만들어\s?줘|\b(?:write|compose|create)\b",
    "code": r"```|코드|함수|파이썬|\b(?:code|function|python|def|class|import|select)\b",
    "maths": r"계산|방정식|증명|미분|적분|확률|[0-9]\s*[-+*/×÷=^]\s*[0-9]|\b(?:solve|prove|equation)\b",
    "translate": r"번역|영어로|한국어로|\btranslat",
    "summarise": r"요약|정리해|간추려|\bsummar",
    "several steps": r"단계|차례로|먼저(?:(?!먼저).)*다음|\bstep",
    "question mark": r"[?？]",
}
"""What kind of question it is, by words that tend to say so."""
_CUES = {name: re.compile(pattern, re.IGNORECASE | re.DOTALL) for name, pattern in CUES.items()}

NAMES = (
    "hangul", "latin", "digits", "symbols", "others", "characters", "tokens", "turns", "media", "tools",
    *(f"cue {name}" for name in CUES),
)  # fmt: skip
"""The named numbers, in order: shares of the characters that are no spaces, logarithms of counts, 0 or 1."""

_HANGUL = re.compile(f"[{SYLLABLES}{LEADING}{VOWELS}{TRAILING}{COMPATIBILITY_JAMO}]")
_SYMBOLS = "{}[]()<>=;_/\\#*+&|^~`$@%"
_SPACES = " \t\r\n\u00a0\u3000"
_KINDS = tuple(TOKENS_PER_CHARACTER)
_TOKENS_PER_KIND = np.array(list(TOKENS_PER_CHARACTER.values()))
_FACTORS = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5], dtype=np.uint64
)
_FINISH = np.uint64(0xBF58476D1CE4E5B9)


class Features(NamedTuple):
    """A question in numbers.

    Attributes:
        named: the numbers of `NAMES`.
        buckets: which buckets its runs of characters fall into, each once, rising.
        counts: how many runs fell into each.
    """

    named: NDArray[np.float64]
    buckets: NDArray[np.int64]
    counts: NDArray[np.float64]


def features_of(question: Question) -> Features:
    """The features of a question. Runs and cues are those of what is asked now; lengths are those of everything.

    Of a text longer than `MAX_READ` its beginning has the runs and cues.

    >>> features = features_of(Question(text="왜 하늘은 파래?"))
    >>> dict(zip(NAMES, features.named.round(2).tolist(), strict=True))["cue why"]
    1.0
    """
    kinds = count_kinds(question.text) + count_kinds(question.before)
    visible = max(1, int(kinds[:-1].sum()))
    beginning = question.text[:MAX_READ]
    cues = [float(pattern.search(beginning) is not None) for pattern in _CUES.values()]
    named = np.array(
        [
            *(kinds[:-1] / visible),
            np.log1p(question.num_characters),
            np.log1p(_num_tokens(kinds)),
            np.log1p(question.num_turns),
            question.has_media,
            question.has_tools,
            *cues,
        ],
        dtype=np.float64,
    )
    buckets, counts = np.unique(run_buckets(beginning), return_counts=True)
    return Features(named, buckets.astype(np.int64), counts.astype(np.float64))


def num_tokens(question: Question) -> float:
    """About how many tokens it has, by the scripts that it is written in: no tokenizer is asked.

    >>> round(num_tokens(Question(text="가나다라마바사아자차")), 1), round(num_tokens(Question(text="0123456789")), 1)
    (6.8, 7.2)
    """
    return _num_tokens(count_kinds(question.text) + count_kinds(question.before))


def language_of(question: Question) -> str:
    """What it is mostly written in: "code", "ko", "en" (or another language in Latin letters), or "other".

    >>> [language_of(Question(text=text)) for text in ("말모이 v2 써 봤어?", "What is Malmoi?", "x = f[i](a) + {};")]
    ['ko', 'en', 'code']
    """
    hangul, latin, digits, symbols, others, _ = count_kinds(question.text).tolist()
    visible = hangul + latin + digits + symbols + others
    if "```" in question.text or (symbols > 0.2 * visible and symbols > 0.2 * hangul):
        return "code"
    if hangul >= 0.5 * latin and hangul > 0.2 * visible:
        return "ko"
    return "en" if latin > 0.4 * visible else "other"


def count_kinds(text: str) -> NDArray[np.int64]:
    """How many characters are Hangul, Latin letters, digits, symbols of code, others, and spaces."""
    return np.bincount(_KIND_OF[np.minimum(_points(text), _TABLE_SIZE - 1)], minlength=len(_KINDS))


def run_buckets(text: str) -> NDArray[np.uint64]:
    """The bucket of every run of `SIZES` characters, spaces folded to one and letters small; the same on any machine.

    Features are hashed without a dictionary as in Weinberger et al. 2009 (arXiv:0902.2206); our difference: no sign is
    hashed beside the place, as counts are weighed by how rare a bucket is and a negative one would have no rarity.

    >>> np.array_equal(run_buckets("하늘은  파래"), run_buckets("하늘은 파래")), run_buckets("").size
    (True, 1)
    """
    points = _points(f" {' '.join(text.lower().split())} ").astype(np.uint64)
    found = []
    for size in SIZES:
        num_runs = len(points) - size + 1
        if num_runs > 0:
            mixed = np.full(num_runs, size, dtype=np.uint64)
            for place in range(size):
                mixed += points[place : place + num_runs] * _FACTORS[place]
            mixed ^= mixed >> np.uint64(29)
            mixed *= _FINISH
            found.append(mixed >> np.uint64(64 - BUCKET_BITS))
    return np.concatenate(found)


def _num_tokens(kinds: NDArray[np.int64]) -> float:
    return float(kinds @ _TOKENS_PER_KIND)


def _points(text: str) -> NDArray[np.uint32]:
    """Its code points; half a character, which JSON can say, is one too."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.dtype("<u4"))


def _kinds_of_points() -> NDArray[np.uint8]:
    """The kind of every code point of the first plane; the last stands for all behind it."""
    table = np.full(_TABLE_SIZE, _KINDS.index("others"), dtype=np.uint8)
    for point in range(_TABLE_SIZE):
        character = chr(point)
        if _HANGUL.match(character):
            table[point] = _KINDS.index("hangul")
        elif character in _SPACES:
            table[point] = _KINDS.index("spaces")
        elif character in _SYMBOLS:
            table[point] = _KINDS.index("symbols")
        elif point < 0x250 and character.isalpha():
            table[point] = _KINDS.index("latin")
        elif "0" <= character <= "9":
            table[point] = _KINDS.index("digits")
    return table


_TABLE_SIZE = 2**16
_KIND_OF = _kinds_of_points()
