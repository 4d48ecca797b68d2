from itertools import islice
from threading import enumerate as running_threads

import pytest
import torch

from malmoi.core.errors import DataError
from malmoi.data.pack import PackedStream
from malmoi.data.prefetch import Prefetcher
from malmoi.data.samples import Encoder
from malmoi.data.sources import SourceConfig
from malmoi.testing.tokenizer import ByteTokenizer


def stream(path: str, num_epochs: int | None = None) -> PackedStream:
    source = SourceConfig(path=path, holdout_permille=0)
    encoder = Encoder(tokenizer=ByteTokenizer())
    return PackedStream([source], encoder, tokens_per_batch=32, context_length=16, num_epochs=num_epochs)


@pytest.fixture
def path(write_rows) -> str:
    return write_rows([f"문서 번호 {n}" for n in range(40)])


def test_prefetching_changes_neither_batches_nor_states_nor_reports(path: str) -> None:
    plain = stream(path)
    with Prefetcher(stream(path), depth=3) as ahead:
        assert ahead.state_dict() == plain.state_dict()
        for batch in islice(ahead, 30):
            assert torch.equal(batch.tokens, next(plain).tokens)
            assert ahead.state_dict() == plain.state_dict()
            assert ahead.report() == plain.report()


def test_a_state_taken_while_ahead_resumes_at_the_batch_the_caller_saw(path: str) -> None:
    with Prefetcher(stream(path), depth=3) as ahead:
        for _ in islice(ahead, 5):
            pass
        state = ahead.state_dict()
        expected = [batch.tokens for batch in islice(ahead, 5)]
        ahead.load_state_dict(state)
        again = [batch.tokens for batch in islice(ahead, 5)]
    assert all(torch.equal(a, b) for a, b in zip(expected, again, strict=True))


def test_the_end_and_errors_reach_the_caller_and_the_thread_ends(path: str) -> None:
    with Prefetcher(stream(path, num_epochs=1)) as ahead:
        assert len(list(ahead)) == len(list(stream(path, num_epochs=1)))
        assert next(ahead, None) is None
    with Prefetcher(stream(path + ".missing")) as ahead, pytest.raises(DataError, match="no such file"):
        next(ahead)
    assert all(thread.name != "prefetch" for thread in running_threads())
