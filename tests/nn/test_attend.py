"""The fast kernels compute what the reference says, forward and backward, alone and inside `attend`."""

import random
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from malmoi.nn.attend import AttentionRule, attend
from malmoi.nn.cache import (
    DenseCache,
    KeyValueSpec,
    PackedLayout,
    PagedCache,
    PagedStep,
    Ragged,
    RollingCache,
    Rows,
)
from malmoi.nn.kernels import ragged
from malmoi.nn.kernels.ragged import ragged_attention
from malmoi.nn.kernels.reference import ragged_attention_reference, rows_attention_reference
from malmoi.nn.kernels.rows import rows_attention

Kernel = Callable[..., Tensor]
HEADS = [(4, 4), (4, 2), (4, 1)]  # multi-head, grouped, multi-query
HEAD_DIM = 8


@pytest.fixture(autouse=True, scope="module")
def blocks_of_four_queries() -> Any:
    """Short sequences cross the borders of blocks too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ragged, "QUERIES_PER_BLOCK", 4)
        yield


def offsets(lengths: Sequence[int]) -> Tensor:
    return torch.tensor([0, *accumulate(lengths)])


def draw(batch: int, length: int, heads: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(batch, length, heads, HEAD_DIM).to(dtype).requires_grad_()


def assert_same(fast: Tensor, reference: Tensor, tolerance: float) -> None:
    """Within `tolerance` of the largest value; gradients that are zero on paper are compared with 1."""
    assert fast.dtype == reference.dtype
    assert fast.shape == reference.shape
    largest = reference.float().abs().max().clamp(min=1.0) if reference.numel() else 1.0
    assert (fast.float() - reference.float()).abs().le(tolerance * largest).all()


def assert_twins(fast: Kernel, reference: Kernel, inputs: Sequence[Tensor], *rest: Any, **rule: Any) -> None:
    """Outputs and gradients of two kernels, for one random gradient of the output."""
    tolerance = 3e-2 if inputs[0].dtype == torch.bfloat16 else 1e-5
    out, wanted = fast(*inputs, *rest, **rule), reference(*inputs, *rest, **rule)
    assert_same(out, wanted, tolerance)
    grad = torch.randn_like(wanted)
    for ours, theirs in zip(
        torch.autograd.grad(out, inputs, grad), torch.autograd.grad(wanted, inputs, grad), strict=True
    ):
        assert_same(ours, theirs, tolerance)


# Sequences as (tokens of this step, tokens cached before it).
SEQUENCES = st.lists(st.tuples(st.integers(1, 11), st.integers(0, 7)), min_size=1, max_size=4)


RULES = st.fixed_dictionaries(
    {
        "is_causal": st.booleans(),
        "scale": st.just(0.3),
        "window": st.sampled_from([None, 1, 3, 6]),
        "soft_cap": st.sampled_from([None, None, 2.0]),
        "bias": st.sampled_from([None, None, lambda t, s: torch.arange(4.0 * t * s).view(4, t, s).sin()]),
    }
)


@settings(max_examples=100)
@given(sequences=SEQUENCES, heads=st.sampled_from(HEADS), rule=RULES)
def test_ragged_kernel_equals_the_reference(
    sequences: list[tuple[int, int]], heads: tuple[int, int], rule: dict[str, Any]
) -> None:
    queries, keys = [new for new, _ in sequences], [new + old for new, old in sequences]
    inputs = draw(1, sum(queries), heads[0]), draw(1, sum(keys), heads[1]), draw(1, sum(keys), heads[1])
    assert_twins(
        ragged_attention, ragged_attention_reference, inputs, offsets(queries), offsets(keys), **rule
    )


@settings(max_examples=100)
@given(lengths=st.tuples(st.integers(1, 9), st.integers(0, 9)), heads=st.sampled_from(HEADS), rule=RULES)
def test_rows_kernel_equals_the_reference(
    lengths: tuple[int, int], heads: tuple[int, int], rule: dict[str, Any]
) -> None:
    new, old = lengths
    inputs = draw(2, new, heads[0]), draw(2, new + old, heads[1]), draw(2, new + old, heads[1])
    assert_twins(rows_attention, rows_attention_reference, inputs, **rule)


@pytest.mark.parametrize(
    "kernels", [(rows_attention, ()), (ragged_attention, ([0, 5], [0, 7]))], ids=["rows", "ragged"]
)
def test_values_may_be_narrower_than_keys(kernels: tuple[Kernel, Any]) -> None:
    kernel, spans = kernels
    q, k, v = draw(1, 5, 4), draw(1, 7, 2), torch.randn(1, 7, 2, 3).requires_grad_()
    reference = ragged_attention_reference if spans else rows_attention_reference
    assert_twins(kernel, reference, (q, k, v), *map(torch.tensor, spans), is_causal=True, scale=0.3)


@settings(max_examples=30)
@given(chunks=st.lists(st.integers(1, 9), min_size=1, max_size=8), window=st.integers(1, 6))
def test_a_rolling_cache_is_a_whole_one_seen_through_its_window(chunks: list[int], window: int) -> None:
    rule = AttentionRule(window=window)
    rolling, whole = RollingCache(window), DenseCache()
    for chunk in chunks:
        q, k, v = (x.detach() for x in (draw(2, chunk, 4), draw(2, chunk, 2), draw(2, chunk, 2)))
        out = attend(q, rolling.extend(k, v), rule)
        assert_same(out, attend(q, whole.extend(k, v), rule), 1e-5)
        assert rolling.stored is not None
        assert rolling.stored.k.shape[1] == window


@pytest.mark.parametrize("heads", HEADS)
def test_kernels_equal_the_reference_in_bf16(heads: tuple[int, int]) -> None:
    num_heads, num_kv_heads = heads
    q = draw(1, 14, num_heads, torch.bfloat16)
    k, v = (draw(1, 18, num_kv_heads, torch.bfloat16) for _ in "kv")
    rule = {"is_causal": True, "scale": 0.3}
    assert_twins(rows_attention, rows_attention_reference, (q, k, v), **rule)
    spans = offsets([9, 5]), offsets([9, 9])
    assert_twins(ragged_attention, ragged_attention_reference, (q, k, v), *spans, **rule)


@pytest.mark.parametrize("soft_cap", [None, 50.0])
def test_ragged_kernel_rounds_a_score_once(soft_cap: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With scores up to 16 that is 1.5 % of the largest output; each step of a cap in bf16 would make it more."""
    monkeypatch.setattr(ragged, "QUERIES_PER_BLOCK", 256)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 512, 4, 64, generator=generator).bfloat16() for _ in "qkv")
    rule = {"is_causal": True, "scale": 0.125, "soft_cap": soft_cap}
    spans = offsets([512]), offsets([512])
    wanted = ragged_attention_reference(3 * q.float(), k.float(), v.float(), *spans, **rule)
    assert_same(ragged_attention(3 * q, k, v, *spans, **rule).float(), wanted, 1.5e-2)


def test_the_reference_computes_in_fp32() -> None:
    """Of bf16 operands it says what it says of the same numbers in fp32, rounded once, at the end."""
    q, k, v = (draw(1, 9, 2, torch.bfloat16).detach() for _ in "qkv")
    rule = {"is_causal": True, "scale": 0.3, "soft_cap": 5.0}
    wanted = rows_attention_reference(q.float(), k.float(), v.float(), **rule)
    assert torch.equal(rows_attention_reference(q, k, v, **rule), wanted.bfloat16())


@pytest.mark.parametrize("is_causal", [True, False])
def test_ragged_kernel_equals_the_reference_where_keys_are_fewer(is_causal: bool) -> None:
    """Queries without a causal order may outnumber the keys: cross-attention to something short."""
    num_queries, num_keys = (4, 6) if is_causal else (9, 3)
    inputs = draw(1, num_queries, 2), draw(1, num_keys, 2), draw(1, num_keys, 2)
    spans = offsets([num_queries]), offsets([num_keys])
    assert_twins(ragged_attention, ragged_attention_reference, inputs, *spans, is_causal=is_causal, scale=0.3)


def test_ragged_kernel_skips_an_empty_sequence() -> None:
    inputs = [draw(1, 5, 2) for _ in "qkv"]
    rule = {"is_causal": True, "scale": 0.3}
    with_gap = ragged_attention(*inputs, offsets([2, 0, 3]), offsets([2, 0, 3]), **rule)
    without = ragged_attention(*inputs, offsets([2, 3]), offsets([2, 3]), **rule)
    assert torch.equal(with_gap, without)


def test_a_real_block_is_as_right_as_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged, "QUERIES_PER_BLOCK", 256)
    inputs = [draw(1, 600, 1) for _ in "qkv"]
    spans = offsets([560, 40]), offsets([560, 40])
    assert_twins(ragged_attention, ragged_attention_reference, inputs, *spans, is_causal=True, scale=0.3)


def test_inference_computes_the_same_bits_without_the_operator() -> None:
    inputs, spans = [draw(1, 9, 2) for _ in "qkv"], (offsets([6, 3]), offsets([6, 3]))
    wanted = ragged_attention(*inputs, *spans, is_causal=True, scale=0.3)
    with torch.inference_mode():
        assert torch.equal(ragged_attention(*inputs, *spans, is_causal=True, scale=0.3), wanted)


@pytest.mark.slow
def test_ragged_operator_keeps_the_promises_that_the_compiler_relies_on() -> None:
    """Schema, autograd registration and the fake that says shapes without computing."""
    q, k, v = (draw(1, 7, 2) for _ in "qkv")
    torch.library.opcheck(
        torch.ops.malmoi.ragged_attention.default,
        (q, k, v, offsets([5, 2]), offsets([5, 2]), True, 0.3, 3, 2.0),
    )


def test_the_reference_is_softmax_attention() -> None:
    """Against a loop over one query at a time, written from the definition."""
    q, k, v = (draw(1, *shape).detach() for shape in ((3, 2), (5, 1), (5, 1)))
    out = rows_attention_reference(q, k, v, is_causal=True, scale=0.3)
    for t in range(3):
        for n in range(2):
            visible = slice(0, 5 - 3 + t + 1)
            scores = [0.3 * float(q[0, t, n] @ key) for key in k[0, visible, 0]]
            weights = torch.tensor(scores).softmax(0)
            assert torch.allclose(out[0, t, n], weights @ v[0, visible, 0], atol=1e-6)


@settings(max_examples=30)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), rule_scale=st.sampled_from([None, 0.7]))
def test_packed_sequences_attend_as_if_each_were_alone(lengths: list[int], rule_scale: float | None) -> None:
    rule = AttentionRule(scale=rule_scale)
    q, k, v = draw(1, sum(lengths), 4), draw(1, sum(lengths), 2), draw(1, sum(lengths), 2)
    packed = attend(q, PackedLayout(offsets(lengths)).extend(k, v), rule)
    alone = [
        attend(q_, Rows(k_, v_), rule)
        for q_, k_, v_ in zip(*(x.split(lengths, dim=1) for x in (q, k, v)), strict=True)
    ]
    assert_same(packed, torch.cat(alone, dim=1), 1e-5)


@settings(max_examples=30)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_a_paged_pool_gives_back_each_sequence_in_order(lengths: list[int], seed: int) -> None:
    """Written to slots in any order, one token a step for all sequences at once."""
    num_slots = sum(lengths) + 3
    slots = random.Random(seed).sample(range(num_slots), num_slots)
    owned = [slots[start : start + n] for start, n in zip(offsets(lengths).tolist(), lengths, strict=False)]
    keys = [torch.randn(n, 2, HEAD_DIM) for n in lengths]
    spec = KeyValueSpec(num_kv_heads=2, head_dim=HEAD_DIM)
    pool = PagedCache(num_slots, spec, dtype=torch.float32, device="cpu")
    dense = [DenseCache() for _ in lengths]
    for step in range(max(lengths)):
        active = [i for i, n in enumerate(lengths) if step < n]
        view = pool.at(
            PagedStep(
                write=torch.tensor([owned[i][step] for i in active]),
                read=torch.tensor([slot for i in active for slot in owned[i][: step + 1]]),
                query_offsets=offsets([1] * len(active)),
                key_offsets=offsets([step + 1] * len(active)),
            )
        )
        new = torch.stack([keys[i][step] for i in active])[None]
        paged = view.extend(new, 2 * new).gather()
        rows = [dense[i].extend(keys[i][None, step, None], 2 * keys[i][None, step, None]) for i in active]
        assert torch.equal(paged.k, torch.cat([row.k for row in rows], dim=1))
        assert torch.equal(paged.v, torch.cat([row.v for row in rows], dim=1))


def test_a_narrower_cache_leaves_the_output_in_the_precision_of_the_queries() -> None:
    q, k = draw(1, 2, 2), draw(1, 2, 2, torch.bfloat16)
    assert attend(q, Rows(k, k), AttentionRule()).dtype == torch.float32
    assert attend(q, Ragged(k, k, offsets([2]), offsets([2])), AttentionRule()).dtype == torch.float32
