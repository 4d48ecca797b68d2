import unicodedata
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from malmoi.text.microscope.genre import Genre, Sampler

TEXTS = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20), max_size=30)


def sample(texts: list[str], max_bytes: int) -> list[tuple[str, ...]]:
    sampler = Sampler(max_bytes)
    for text in texts:
        sampler.add(text)
    return sampler.items()


@given(texts=TEXTS, max_bytes=st.integers(1, 200), seed=st.integers(0, 9))
def test_a_sample_does_not_depend_on_the_order_of_the_texts(
    texts: list[str], max_bytes: int, seed: int
) -> None:
    shuffled = Random(seed).sample(texts, len(texts))
    assert sample(shuffled, max_bytes) == sample(texts, max_bytes)


@given(texts=TEXTS, max_bytes=st.integers(1, 200))
def test_a_sample_is_the_stated_size_and_at_most_one_text_more(texts: list[str], max_bytes: int) -> None:
    sizes = [len(text.encode()) for (text,) in sample(texts, max_bytes)]
    whole = sum(len(unicodedata.normalize("NFC", text).encode()) for text in texts)
    assert sum(sizes) >= min(max_bytes, whole)
    assert not sizes or sum(sizes[:-1]) < max_bytes


@given(texts=TEXTS, max_bytes=st.integers(1, 100))
def test_a_larger_sample_begins_with_the_smaller_one(texts: list[str], max_bytes: int) -> None:
    small = sample(texts, max_bytes)
    assert sample(texts, 2 * max_bytes)[: len(small)] == small


def test_a_sample_is_composed_and_keeps_together_what_belongs_together() -> None:
    sampler = Sampler(1)
    sampler.add(unicodedata.normalize("NFD", "각"), "gak")
    assert sampler.items() == [("각", "gak")]
    assert sampler.genre("ko") == Genre("ko", ("각",))


def test_a_genre_counts_as_korean_from_a_tenth_of_syllables_on() -> None:
    assert Genre("code", ("가" + "x" * 9,)).is_korean
    assert not Genre("code", ("가" + "x" * 10,)).is_korean
