"""A question in numbers: the same on every machine, with every script counted, whatever is in it."""

import subprocess
import sys
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from malmoi.router.features import (
    _CUES,
    MAX_READ,
    NAMES,
    NUM_BUCKETS,
    SIZES,
    count_kinds,
    features_of,
    language_of,
    num_tokens,
    run_buckets,
)
from malmoi.router.question import Question


def named(text: str, **more: object) -> dict[str, float]:
    return dict(zip(NAMES, features_of(Question(text=text, **more)).named.tolist(), strict=True))  # type: ignore[arg-type]


@given(st.text())
def test_every_character_is_of_one_kind(text: str) -> None:
    assert count_kinds(text).sum() == len(text)


@given(st.text(max_size=200))
def test_counts_are_those_of_all_runs(text: str) -> None:
    folded = f" {' '.join(text.lower().split())} "
    features = features_of(Question(text=text))
    assert features.counts.sum() == sum(max(0, len(folded) - size + 1) for size in SIZES)
    assert (np.diff(features.buckets) > 0).all()
    assert features.buckets.size == 0 or 0 <= features.buckets[0] <= features.buckets[-1] < NUM_BUCKETS


@given(st.text(max_size=50))
def test_equal_runs_fall_into_equal_buckets_wherever_they_stand(text: str) -> None:
    """A slow twin: a bucket for each run by itself."""
    folded = f" {' '.join(text.lower().split())} "
    runs = [folded[at : at + size] for size in SIZES for at in range(len(folded) - size + 1)]
    buckets = run_buckets(text).tolist()
    assert len(runs) == len(buckets)
    assert len(set(zip(runs, buckets, strict=True))) == len(set(runs))


def test_different_runs_seldom_share_a_bucket() -> None:
    """As many pairs do as of numbers drawn at random: n (n - 1) / 2 / buckets."""
    syllables = "".join(chr(0xAC00 + 7 * number) for number in range(1500))
    buckets = run_buckets(syllables)
    num_shared = len(buckets) - len(set(buckets.tolist()))
    expected = len(buckets) ** 2 / 2 / NUM_BUCKETS
    assert 0.6 * expected < num_shared < 1.4 * expected


def test_buckets_do_not_depend_on_the_process() -> None:
    """Python's own hash of a string is another one in each process."""
    code = "from malmoi.router.features import run_buckets; print(run_buckets('말모이').tolist())"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert seen == {f"{run_buckets('말모이').tolist()}\n"}


def test_no_torch_is_loaded_to_route() -> None:
    code = "import sys, malmoi.router.training, malmoi.router.report; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("text", ["말모이가 뭐야?", "한글", "ㅋㅋ"])
def test_hangul_counts_in_both_spellings(text: str) -> None:
    letters = sum(unicodedata.category(character).startswith("L") for character in text)
    assert count_kinds(text)[0] == letters
    apart = unicodedata.normalize("NFD", text)
    assert count_kinds(apart)[0] == sum(unicodedata.category(one).startswith("L") for one in apart)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("오늘 서울 날씨 알려 줘", "ko"),
        ("Python으로 피보나치 함수 만들어 줘", "ko"),
        ("What is the capital of Korea?", "en"),
        ("```\nprint(1)\n```", "code"),
        ("for (i = 0; i < n; i++) { a[i] = b[i] * c; }", "code"),
        ("こんにちは、元気ですか", "other"),
        ("", "other"),
        ("12345", "other"),
    ],
)
def test_a_question_is_of_the_language_that_it_is_written_in(text: str, language: str) -> None:
    assert language_of(Question(text=text)) == language


@pytest.mark.parametrize(
    ("text", "cue"),
    [
        ("왜 하늘은 파래?", "why"),
        ("김치는 어떻게 담가?", "how"),
        ("시 한 편 써 줘", "write"),
        ("파이썬 함수 좀", "code"),
        ("3 + 4는?", "maths"),
        ("영어로 번역해 줘", "translate"),
        ("이 글을 요약해 줘", "summarise"),
        ("Explain step by step", "several steps"),
    ],
)
def test_words_tell_the_kind_of_a_question(text: str, cue: str) -> None:
    assert named(text)[f"cue {cue}"] == 1.0
    assert named("그래.")[f"cue {cue}"] == 0.0


def test_lengths_are_of_the_whole_conversation_and_runs_of_what_is_asked() -> None:
    alone, late = Question(text="왜?"), Question(text="왜?", before="가" * 1000, num_turns=3)
    assert np.array_equal(features_of(alone).buckets, features_of(late).buckets)
    assert num_tokens(late) > 100 * num_tokens(alone)
    assert named("왜?", before="가" * 1000)["characters"] == pytest.approx(np.log1p(1002))
    assert named("왜?", num_turns=3)["turns"] == pytest.approx(np.log(4))


def test_half_a_character_is_a_character() -> None:
    assert features_of(Question(text="\ud800 왜?")).buckets.size > 0


def test_a_text_that_repeats_a_cue_without_its_end_is_read_in_no_time() -> None:
    """Each cue takes time in proportion to the text: nobody's question keeps the others waiting."""
    begin = time.process_time()
    for pattern in _CUES.values():
        pattern.search("먼저" * 500_000)
    assert time.process_time() - begin < 5
    assert named("먼저 씻고 그다음 먹고\n다음에 자")["cue several steps"] == 1


def test_of_a_long_text_the_beginning_is_looked_at_and_all_of_it_counted() -> None:
    short = features_of(Question(text="가나" * (MAX_READ // 2)))
    long = features_of(Question(text="가나" * MAX_READ + "왜?"))
    assert np.array_equal(short.buckets, long.buckets)
    assert np.array_equal(short.counts, long.counts)
    assert long.named[NAMES.index("cue why")] == 0
    assert long.named[NAMES.index("characters")] == pytest.approx(np.log1p(2 * MAX_READ + 2))
