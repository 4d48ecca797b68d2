from itertools import islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from malmoi.core.errors import ConfigError
from malmoi.data.documents import Text
from malmoi.data.mixture import Mixture, Reading, shuffle
from malmoi.data.samples import Encoder
from malmoi.data.sources import SourceConfig
from malmoi.testing.tokenizer import ByteTokenizer

ENCODER = Encoder(tokenizer=ByteTokenizer())


def reading(num_epochs: int | None = None) -> Reading:
    return Reading(seed=0, max_tokens=64, shuffle_characters=1000, num_epochs=num_epochs, split="train")


def test_every_source_has_its_share_of_tokens_at_every_moment_within_one_document(write_rows) -> None:
    weights, lengths = (6.0, 3.0, 1.0), (5, 80, 11)
    sources = [
        SourceConfig(
            path=write_rows(["a" * length] * 10, f"{length}.jsonl"), weight=weight, holdout_permille=0
        )
        for weight, length in zip(weights, lengths, strict=True)
    ]
    mixture = Mixture(sources, ENCODER, reading())
    for _ in islice(mixture, 500):
        had = [progress.num_tokens for _, progress in mixture.report()]
        for tokens, weight, length in zip(had, weights, lengths, strict=True):
            assert abs(tokens - sum(had) * weight / 10) <= max(lengths) + length + 2
    assert all(progress.epoch > 0 for _, progress in mixture.report())


def test_a_finite_mixture_reads_every_source_to_its_end(write_rows) -> None:
    sources = [
        SourceConfig(path=write_rows([f"{n}" for n in range(count)], f"{count}.jsonl"), holdout_permille=0)
        for count in (3, 40)
    ]
    mixture = Mixture(sources, ENCODER, reading(num_epochs=2))
    assert len(list(mixture)) == 2 * (3 + 40)
    assert next(mixture, None) is None


def test_the_same_source_twice_is_shuffled_differently(write_rows) -> None:
    source = SourceConfig(path=write_rows([f"{n:02}" for n in range(50)]), holdout_permille=0)
    samples = [
        tuple(sample.ids.tolist()) for sample in Mixture([source, source], ENCODER, reading(num_epochs=1))
    ]
    assert samples[0::2] != samples[1::2]
    assert sorted(samples[0::2]) == sorted(samples[1::2])


def test_a_mixture_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one source"):
        Mixture([], ENCODER, reading())


@given(st.lists(st.integers(1, 30)), st.integers(0, 100), st.integers())
def test_shuffle_yields_every_document_once_and_never_holds_more_than_the_buffer(
    lengths: list[int], limit: int, seed: int
) -> None:
    documents = [Text(text="가" * length, where=f"{index}") for index, length in enumerate(lengths)]
    read: list[Text] = []

    def reader():
        for document in documents:
            read.append(document)
            yield document

    given_back: list[str] = []
    for document in shuffle(reader(), Random(seed), limit):
        assert sum(d.num_characters for d in read if d.where not in given_back) <= limit + 30
        given_back.append(document.where)
    assert sorted(given_back, key=int) == [document.where for document in documents]


def test_shuffle_with_an_empty_buffer_keeps_the_order() -> None:
    documents = [Text(text="가", where=f"{index}") for index in range(20)]
    assert list(shuffle(documents, Random(0), 0)) == documents
