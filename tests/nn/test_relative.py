"""Relative position bias: every bucket boundary of the reference, and a bias that is a function of the distance."""

import pytest
import torch
from transformers.models.t5.modeling_t5 import T5Attention

from malmoi.core.errors import ConfigError
from malmoi.nn.relative import RelativeBias


@pytest.mark.parametrize("is_bidirectional", [True, False])
@pytest.mark.parametrize("num_buckets", [4, 6, 8, 32, 34, 128])
@pytest.mark.parametrize(
    "max_distance", [64, 100, 128, 333, 1000]
)  # 128 buckets to 100: a boundary that rounds
def test_every_distance_has_the_bucket_of_the_reference(
    num_buckets: int, max_distance: int, is_bidirectional: bool
) -> None:
    if num_buckets // (4 if is_bidirectional else 2) >= max_distance:
        pytest.skip("refused: every distance up to the largest would have a bucket of its own")
    bias = RelativeBias(
        num_heads=1, num_buckets=num_buckets, max_distance=max_distance, is_bidirectional=is_bidirectional
    )
    distances = torch.arange(-4000, 4001)
    theirs = T5Attention._relative_position_bucket(distances, is_bidirectional, num_buckets, max_distance)
    assert torch.equal(bias.buckets(distances), theirs)


@pytest.mark.parametrize("is_bidirectional", [True, False])
def test_the_bias_of_a_query_and_a_key_is_that_of_their_distance(is_bidirectional: bool) -> None:
    bias = RelativeBias(num_heads=3, num_buckets=8, max_distance=16, is_bidirectional=is_bidirectional)
    num_queries, num_keys = 5, 30
    scores = bias(num_queries, num_keys)
    for query in range(num_queries):
        position = num_keys - num_queries + query
        for key in range(num_keys):
            bucket = bias.buckets(torch.tensor([key - position]))
            assert torch.equal(scores[:, query, key], bias.table(bucket)[0])


@pytest.mark.parametrize(
    ("num_buckets", "max_distance", "is_bidirectional"), [(3, 16, True), (1, 16, False), (32, 16, False)]
)
def test_buckets_that_leave_nothing_exact_or_nothing_far_are_refused(
    num_buckets: int, max_distance: int, is_bidirectional: bool
) -> None:
    with pytest.raises(ConfigError, match=f"num_buckets={num_buckets} with max_distance={max_distance}"):
        RelativeBias(
            num_heads=1, num_buckets=num_buckets, max_distance=max_distance, is_bidirectional=is_bidirectional
        )
