"""Damaged text: the examples of the papers, and nothing lost whatever is drawn."""

import doctest
from itertools import pairwise
from random import Random
from statistics import mean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import malmoi.data.denoise
from malmoi.core.errors import ConfigError, DataError
from malmoi.data.denoise import (
    _poisson,
    corrupt_spans,
    infill_text,
    permute_sentences,
    poisson_spans,
    random_spans,
    split_sentences,
)

MASK = -1
SENTINELS = range(-100, 0)
SIZES, SEEDS, SHARES = st.integers(2, 120), st.integers(0, 2**32), st.floats(0.05, 0.9)


def test_docstring_examples_are_true() -> None:
    assert doctest.testmod(malmoi.data.denoise) == (0, 7)


def test_text_infilling_and_sentence_permutation_are_the_figure_of_the_paper() -> None:
    """arXiv:1910.13461, figure 2: "A B C . D E ." as "A _ . D _ E ." and as "D E . A B C ."."""
    text = list("ABC.DE.")
    assert " ".join(infill_text(text, [range(1, 3), range(5, 5)], mask="_")) == "A _ . D _ E ."
    assert " ".join(permute_sentences([text[:4], text[4:]], random=Random(0))) == "D E . A B C ."


def test_span_corruption_is_the_figure_of_the_paper() -> None:
    """arXiv:1910.10683, figure 2."""
    words = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week", "."]
    ids = {word: index for index, word in enumerate([*words, "<X>", "<Y>", "<Z>"])}
    names = list(ids)
    pair = corrupt_spans(
        range(11), [range(2, 4), range(8, 9)], sentinels=[ids[x] for x in ("<X>", "<Y>", "<Z>")]
    )
    assert " ".join(names[i] for i in pair.source) == "Thank you <X> me to your party <Y> week ."
    assert " ".join(names[i] for i in pair.target) == "<X> for inviting <Y> last <Z>"


@given(num_tokens=SIZES, seed=SEEDS, share=SHARES)
def test_source_and_target_of_span_corruption_are_the_text(num_tokens: int, seed: int, share: float) -> None:
    spans = random_spans(num_tokens, random=Random(seed), share=share, mean_length=3)
    source, target = corrupt_spans(range(num_tokens), spans, sentinels=SENTINELS)
    assert target[-1] == SENTINELS[len(spans)]
    taken_out: dict[int, list[int]] = {}
    for token in target[:-1]:
        if token < 0:
            taken_out[token] = []
        else:
            taken_out[list(taken_out)[-1]].append(token)
    restored = [t for token in source for t in taken_out.get(token, [token])]
    assert restored == list(range(num_tokens))
    assert all(taken_out.values())
    num_noise = sum(map(len, taken_out.values()))
    assert num_noise == min(max(round(num_tokens * share), 1), num_tokens - 1)
    assert all(first.stop < second.start for first, second in pairwise(spans))


@given(num_tokens=SIZES, seed=SEEDS, share=SHARES)
def test_text_infilling_takes_out_its_share_and_leaves_the_rest_in_order(
    num_tokens: int, seed: int, share: float
) -> None:
    spans = poisson_spans(num_tokens, random=Random(seed), share=share)
    noisy = infill_text(range(num_tokens), spans, mask=MASK)
    kept = [token for token in noisy if token != MASK]
    assert noisy.count(MASK) == len(spans)
    assert kept == [token for token in range(num_tokens) if not any(token in span for span in spans)]
    assert len(kept) == num_tokens - round(num_tokens * share)
    assert all(first.stop < second.start for first, second in pairwise(spans))


@given(seed=SEEDS)
def test_the_same_seed_draws_the_same_spans(seed: int) -> None:
    for draw in (poisson_spans, random_spans):
        assert draw(90, random=Random(seed)) == draw(90, random=Random(seed))


def test_span_lengths_have_the_distribution_that_the_paper_names() -> None:
    random = Random(0)
    lengths = [_poisson(random, 3.0) for _ in range(20_000)]
    assert mean(lengths) == pytest.approx(3, abs=0.05)
    assert mean((length - 3) ** 2 for length in lengths) == pytest.approx(3, abs=0.1)
    assert lengths.count(0) / len(lengths) == pytest.approx(0.0498, abs=0.006)  # exp(-3)


def test_spans_of_t5_are_as_long_on_average_as_asked_for() -> None:
    spans = random_spans(512, random=Random(0))
    assert sum(map(len, spans)) == 77
    assert len(spans) == 26


def test_every_place_of_a_text_can_be_taken_out() -> None:
    taken = {
        position
        for seed in range(300)
        for span in random_spans(12, random=Random(seed), share=0.4)
        for position in span
    }
    assert taken == set(range(1, 12))  # a text begins with what stays


def test_too_few_sentinels_are_refused_with_the_numbers() -> None:
    with pytest.raises(DataError, match="2 spans need 3 sentinels, and there are 2"):
        corrupt_spans(range(9), [range(1, 2), range(4, 5)], sentinels=[99, 98])


def test_a_text_of_a_single_token_is_refused() -> None:
    with pytest.raises(DataError, match="a text of 1 tokens has no span"):
        random_spans(1, random=Random(0))


@pytest.mark.parametrize("draw", [poisson_spans, random_spans])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean_length": 0.0}, "mean_length=0.0 of the spans is not 1 to 500"),
        ({"mean_length": -3.0}, "mean_length=-3.0"),
        ({"mean_length": float("nan")}, "mean_length=nan"),
        ({"mean_length": 1e9}, "mean_length=1000000000.0"),
        ({"share": 0.0}, "share=0.0 of a text to take out is not between 0 and 1"),
        ({"share": 1.5}, "share=1.5"),
    ],
)
def test_spans_that_cannot_be_drawn_are_refused(draw: Any, changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        draw(20, random=Random(0), **changes)


@given(st.text(alphabet="ab.?", max_size=30))
def test_sentences_are_the_text_and_each_but_the_last_ends_with_a_full_stop(text: str) -> None:
    sentences = split_sentences(text, ends=".?")
    assert "".join("".join(sentence) for sentence in sentences) == text
    assert all(sentence[-1] in ".?" for sentence in sentences[:-1])
    assert all(sentence[0] not in ".?" for sentence in sentences[1:])
    neighbours = [pair for sentence in sentences for pair in pairwise(sentence)]
    assert not any(first in ".?" and second not in ".?" for first, second in neighbours), (
        "a place without a cut"
    )
