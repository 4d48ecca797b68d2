"""Attention over a pool of slots is attention over the sequences that lie in it, in whatever order."""

import random
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from malmoi.nn.cache import BlockTables, KeyValueSpec, PagedCache, PagedStep
from malmoi.nn.int8_cache import Int8PagedCache
from malmoi.nn.kernels import native
from malmoi.nn.kernels.paged import paged_attention
from malmoi.nn.kernels.reference import ragged_attention_reference

HEAD_DIM, VALUE_DIM = 8, 6
SEQUENCES = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 9)), min_size=1, max_size=4)
"""Of each sequence: how many tokens are new, and how many were there."""
RULES = st.fixed_dictionaries(
    {
        "is_causal": st.booleans(),
        "scale": st.just(0.3),
        "window": st.sampled_from([None, 1, 3, 8]),
        "soft_cap": st.sampled_from([None, 2.0]),
    }
)


def offsets(lengths: Sequence[int]) -> Tensor:
    return torch.tensor([0, *accumulate(lengths)])


def filled(
    kind: type[PagedCache], sequences: list[tuple[int, int]], num_kv_heads: int, seed: int
) -> tuple[PagedCache, PagedStep, Tensor, Tensor]:
    """A pool with the sequences in slots of any order, the step that reads them, and the same end to end."""
    new, lengths = [n for n, _ in sequences], [n + old for n, old in sequences]
    num_slots = sum(lengths) + 3
    read = torch.tensor(random.Random(seed).sample(range(num_slots), sum(lengths)))
    spec = KeyValueSpec(num_kv_heads=num_kv_heads, head_dim=HEAD_DIM, value_dim=VALUE_DIM)
    pool = kind(num_slots, spec, dtype=torch.float32, device="cpu")
    k, v = (torch.randn(len(read), num_kv_heads, width) for width in (HEAD_DIM, VALUE_DIM))
    pool.write(read, k, v)
    step = PagedStep(write=read[:0], read=read, query_offsets=offsets(new), key_offsets=offsets(lengths))
    return pool, step, k[None], v[None]


@settings(max_examples=60)
@given(sequences=SEQUENCES, num_kv_heads=st.sampled_from([1, 2, 4]), rule=RULES, seed=st.integers(0, 99))
def test_paged_kernel_equals_the_reference(
    sequences: list[tuple[int, int]], num_kv_heads: int, rule: dict[str, Any], seed: int
) -> None:
    pool, step, k, v = filled(PagedCache, sequences, num_kv_heads, seed)
    q = torch.randn(1, int(step.query_offsets[-1]), 4, HEAD_DIM)
    out = paged_attention(q, pool.at(step), **rule)
    wanted = ragged_attention_reference(q, k, v, step.query_offsets, step.key_offsets, **rule)
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-5)


def test_what_a_sequence_gets_does_not_depend_on_the_others() -> None:
    sequences = [(1, 30), (4, 9), (1, 0), (1, 77)]
    pool, step, _, _ = filled(PagedCache, sequences, 2, 0)
    q = torch.randn(1, 7, 4, HEAD_DIM)
    rule: dict[str, Any] = {"is_causal": True, "scale": 0.3}
    together = paged_attention(q, pool.at(step), **rule)
    keys = step.key_offsets.tolist()
    for i, (a, b) in enumerate([(0, 1), (1, 5), (5, 6), (6, 7)]):
        own = PagedStep(
            write=step.write, read=step.read[keys[i] : keys[i + 1]], query_offsets=offsets([b - a]),
            key_offsets=offsets([keys[i + 1] - keys[i]]),
        )  # fmt: skip
        assert torch.equal(paged_attention(q[:, a:b], pool.at(own), **rule), together[:, a:b])


@pytest.mark.parametrize("kind", [PagedCache, Int8PagedCache])
def test_a_copied_slot_holds_what_the_other_holds(kind: type[PagedCache]) -> None:
    pool, step, _, _ = filled(kind, [(1, 5)], 2, 0)
    to, source = step.read[:2], step.read[3:5]
    wanted = pool.read(source)
    pool.copy(to, source)
    for ours, theirs in zip(pool.read(to), wanted, strict=True):
        assert torch.equal(ours, theirs)


@settings(max_examples=30)
@given(size=st.sampled_from([1e-30, 1e-3, 1.0, 1e4]), seed=st.integers(0, 99))
def test_eight_bits_are_wrong_by_half_a_step_at_most(size: float, seed: int) -> None:
    spec = KeyValueSpec(num_kv_heads=2, head_dim=HEAD_DIM, value_dim=VALUE_DIM)
    pool = Int8PagedCache(9, spec, dtype=torch.float32, device="cpu")
    slots, generator = torch.tensor([7, 2, 4]), torch.Generator().manual_seed(seed)
    k, v = (size * torch.randn(3, 2, width, generator=generator) for width in (HEAD_DIM, VALUE_DIM))
    pool.write(slots, k, v)
    for exact, kept in zip((k, v), pool.read(slots), strict=True):
        step = exact.abs().amax(dim=-1, keepdim=True) / 127
        assert ((kept - exact).abs() <= 0.5001 * step).all()


def test_eight_bits_keep_zeros_and_do_not_hide_what_is_not_finite() -> None:
    spec = KeyValueSpec(num_kv_heads=1, head_dim=2, value_dim=0)
    pool = Int8PagedCache(3, spec, dtype=torch.bfloat16, device="cpu")
    k = torch.tensor([[[0.0, 0.0]], [[1.0, torch.nan]], [[torch.inf, 1.0]]]).bfloat16()
    pool.write(torch.arange(3), k, k[..., :0])
    kept, values = pool.read(torch.arange(3))
    assert kept.dtype == torch.bfloat16
    assert values.shape == (3, 1, 0)
    assert kept[0].tolist() == [[0.0, 0.0]]
    assert not kept[1].isfinite().all()
    assert not kept[2].isfinite().all()


def test_an_int8_pool_takes_what_it_says() -> None:
    spec = KeyValueSpec(num_kv_heads=3, head_dim=5, value_dim=4)
    pool = Int8PagedCache(10, spec, dtype=torch.bfloat16, device="cpu")
    tensors = (pool.k, pool.v, *pool.scales)
    assert 10 * Int8PagedCache.bytes_per_token(spec, 2) == sum(tensor.nbytes for tensor in tensors)


@pytest.mark.parametrize("level", native.levels())
@pytest.mark.parametrize("kind", [PagedCache, Int8PagedCache])
@settings(max_examples=30)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    num_chunked=st.integers(0, 2),
    window=st.sampled_from([None, 1, 7]),
    soft_cap=st.sampled_from([None, 2.0]),
)
def test_a_step_gets_the_same_from_every_kernel(
    level: str,
    kind: type[PagedCache],
    lengths: list[int],
    num_chunked: int,
    window: int | None,
    soft_cap: float | None,
) -> None:
    """Single queries first, then chunks; both are read in blocks where kernels are there."""
    size, new = 4, [1] * len(lengths) + [3] * num_chunked
    lengths = lengths + [11] * num_chunked
    num_blocks = [-(-length // size) for length in lengths]
    order = iter(random.Random(0).sample(range(sum(num_blocks)), sum(num_blocks)))
    tables = torch.zeros(len(lengths), max(num_blocks), dtype=torch.int32)
    for row, number in zip(tables, num_blocks, strict=True):
        row[:number] = torch.tensor([next(order) for _ in range(number)])
    slots = [
        (row[:, None] * size + torch.arange(size)).flatten()[:n].long()
        for row, n in zip(tables, lengths, strict=True)
    ]
    spec = KeyValueSpec(num_kv_heads=2, head_dim=16, value_dim=32)
    pool = kind(sum(num_blocks) * size, spec, dtype=torch.float32, device="cpu")
    read = torch.cat(slots)
    pool.write(read, torch.randn(len(read), 2, 16), torch.randn(len(read), 2, 32))
    k, v = pool.read(read)
    step = PagedStep(
        write=read[:0], read=read, query_offsets=offsets(new), key_offsets=offsets(lengths),
        blocks=BlockTables(tables, torch.tensor(lengths, dtype=torch.int32), size),
    )  # fmt: skip
    q = torch.randn(1, sum(new), 4, 16)
    rule: dict[str, Any] = {"is_causal": True, "scale": 0.3, "window": window, "soft_cap": soft_cap}
    with native.using(level), torch.inference_mode():
        out = paged_attention(q, pool.at(step), **rule)
    wanted = ragged_attention_reference(q, k[None], v[None], offsets(new), offsets(lengths), **rule)
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-5)
