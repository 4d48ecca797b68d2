"""The kernels in C++ are their twins in PyTorch, on every level that this processor runs, with one thread and two."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from malmoi.core.errors import ConfigError
from malmoi.nn.kernels import native
from malmoi.nn.kernels.look_up import look_up, look_up_reference
from malmoi.nn.kernels.packed_product import (
    packed_product,
    packed_product_reference,
    round_rows,
    rounded_product,
    rounded_product_reference,
)
from malmoi.nn.kernels.packing import (
    Precision,
    Rounded,
    pack,
    round_to,
    round_to_reference,
    unpack,
    unround,
    unround_rows,
)
from malmoi.nn.kernels.paged_decode import Scales, paged_decode, paged_decode_reference
from malmoi.nn.kernels.prefill import prefill_attention, prefill_attention_reference
from malmoi.nn.kernels.reference import rows_attention_reference
from malmoi.nn.kernels.rows import rows_attention
from malmoi.nn.kernels.rowwise import (
    add,
    gated,
    rms_norm,
    rms_norm_reference,
    rotate_halves,
    rotate_halves_reference,
    store,
)
from malmoi.nn.mlp import SIGMOIDS, Activation

BF16, FP32 = torch.bfloat16, torch.float32
SIZES = [(1, 1), (5, 3), (33, 31), (64, 96), (100, 129)]
"""Outputs and inputs: less than a panel, more, and whole ones."""
ROWS = [1, 2, 6, 7, 12, 13, 40]
"""Each number of rows of a tile, or one more."""


@pytest.fixture(params=native.levels())
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    with native.using(request.param):
        yield request.param


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def differ(ours: Tensor, reference: Tensor) -> float:
    """The largest difference, as a part of the largest number."""
    return ((ours.double() - reference.double()).abs().max() / reference.double().abs().max()).item()


def tolerance(dtype: torch.dtype) -> float:
    return 1e-5 if dtype is FP32 else 2**-7  # an ulp of bf16


# --- products ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_packed_product_is_the_product(level: str, size: tuple[int, int]) -> None:
    weight, bias = torch.randn(size).to(BF16), torch.randn(size[0]).to(BF16)
    for num_rows in ROWS:
        x = torch.randn(num_rows, size[1]).to(BF16)
        ours = packed_product(x, pack(weight), bias, out_size=size[0])
        assert differ(ours, x.double() @ weight.double().T + bias.double()) < tolerance(BF16)
        assert differ(ours, packed_product_reference(x, pack(weight), bias, out_size=size[0])) < tolerance(
            BF16
        )


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("group_size", [32, 128])
def test_a_rounded_product_is_that_of_rounded_numbers(
    level: str, size: tuple[int, int], precision: Precision, group_size: int
) -> None:
    rounded, bias = round_to(precision, torch.randn(size), group_size), torch.randn(size[0])
    weight = unround(rounded, out_size=size[0], in_size=size[1]).double()
    for num_rows in ROWS:
        x = torch.randn(num_rows, size[1])
        ours = rounded_product(x, rounded, bias, out_size=size[0])
        assert differ(ours, round_rows(x, group_size).double() @ weight.T + bias.double()) < 1e-5
        assert differ(ours, rounded_product_reference(x, rounded, bias, out_size=size[0])) < 1e-5


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("dtype", [FP32, BF16, torch.float16], ids=str)
def test_rounding_what_comes_in_costs_less_than_a_hundredth(
    level: str, precision: Precision, dtype: torch.dtype
) -> None:
    rounded, x = round_to(precision, torch.randn(96, 256), 32), torch.randn(5, 256).to(dtype)
    exact = x.double() @ unround(rounded, out_size=96, in_size=256).double().T
    ours = rounded_product(x, rounded, None, out_size=96)
    assert ours.dtype is dtype
    assert (ours.double() - exact).norm() / exact.norm() < 0.01


@pytest.mark.parametrize("kind", ["bf16", "int8", "int4"])
def test_a_row_gets_the_same_bits_alone_and_in_any_batch(level: str, threads: int, kind: str) -> None:
    weight, x = torch.randn(2000, 512).to(BF16), torch.randn(45, 512).to(BF16)
    if kind == "bf16":
        panels = pack(weight)
        product = lambda rows: packed_product(rows, panels, None, out_size=2000)  # noqa: E731
    else:
        rounded = round_to(kind, weight, 32)  # type: ignore[arg-type]
        product = lambda rows: rounded_product(rows, rounded, None, out_size=2000)  # noqa: E731
    if level == native.TWINS:
        pytest.skip("PyTorch picks its product by the number of rows")
    together = product(x)
    for count in (1, 3, 8, 19):
        assert torch.equal(product(x[:count].clone()), together[:count])


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_every_level_rounds_the_same_bits_into_the_same_places(level: str, precision: Precision) -> None:
    for size in SIZES:
        weight = torch.randn(size)
        weight[0] = 0.0
        ours, twin = (f(precision, weight, 32) for f in (round_to, round_to_reference))
        assert torch.equal(ours.scales, twin.scales)
        assert torch.equal(ours.codes, twin.codes)
        ids = torch.arange(size[0]).flip(0)
        plain = unround(ours, out_size=size[0], in_size=size[1])
        assert torch.equal(unround_rows(ours, ids, in_size=size[1]), plain[ids])


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("group_size", [32, 128])
@pytest.mark.parametrize("scale", [1e-38, 1.0, 1e18, 3e37])
def test_every_level_chooses_the_same_of_many_scales(
    level: str, precision: Precision, group_size: int, scale: float
) -> None:
    """Errors are summed in one order everywhere: in another one, of scales that are nearly as good another may win."""
    for weight in (torch.randn(256, 1024) * scale, (torch.randn(256, 1024) * scale).to(BF16)):
        ours, twin = (f(precision, weight, group_size) for f in (round_to, round_to_reference))
        assert torch.equal(ours.scales, twin.scales)
        assert torch.equal(ours.codes, twin.codes)


def of_groups(rounded: Rounded, weight: Tensor, group_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """A matrix of whole panels and groups, its scales, and what its codes stand for, by groups."""
    plain = unround(rounded, out_size=weight.shape[0], in_size=weight.shape[1])
    scales = rounded.scales.transpose(1, 2).flatten(0, 1).float()
    return *(torch.unflatten(x, 1, (-1, group_size)) for x in (weight, plain)), scales[..., None]


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("group_size", [32, 64, 128])
def test_no_group_is_off_by_more_than_with_the_scale_of_its_largest_number(
    precision: Precision, group_size: int
) -> None:
    """That of llama.cpp's Q8_0 and Q4_0 (ggml-quants.c), kept in bf16."""
    weight = torch.randn(320, 1280)
    groups, ours, _ = of_groups(round_to(precision, weight, group_size), weight, group_size)
    largest = groups.gather(-1, groups.abs().argmax(dim=-1, keepdim=True))
    lowest, highest = (-127, 127) if precision == "int8" else (-8, 7)
    scales = (largest / lowest).to(BF16).float()
    theirs = scales * (groups / scales).round().clamp(lowest, highest)
    error, plain_error = ((x - groups).square().sum(dim=-1) for x in (ours, theirs))
    assert (error <= plain_error * (1 + 1e-5)).all()
    assert error.sum() < 0.93 * plain_error.sum()


@pytest.mark.parametrize("precision", ["int8", "int4"])
@given(seed=st.integers(0, 2**32), group_size=st.sampled_from([32, 64, 128]), exponent=st.floats(-15, 15))
@settings(max_examples=25, deadline=None)
def test_what_was_rounded_is_rounded_to_itself(
    precision: Precision, seed: int, group_size: int, exponent: float
) -> None:
    """Not so for numbers below about 1e-19: squares of their errors lose bits, and two scales may be equally good."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(37, 200, generator=generator) * 10**exponent
    size = {"out_size": 37, "in_size": 200}
    once = unround(round_to(precision, weight, group_size), **size)
    assert torch.equal(unround(round_to(precision, once, group_size), **size), once)


@pytest.mark.parametrize("dtype", [FP32, BF16], ids=str)
@pytest.mark.parametrize("kind", ["bf16", "int8", "int4"])
@pytest.mark.parametrize("group_size", [32, 128])
def test_rows_of_packed_weights_are_the_weights(
    level: str, threads: int, kind: str, group_size: int, dtype: torch.dtype
) -> None:
    for out_size, in_size in [*SIZES, (300, 200)]:
        weight = torch.randn(out_size, in_size).to(BF16)
        packed = pack(weight) if kind == "bf16" else round_to(kind, weight, group_size)  # type: ignore[arg-type]
        size = {"out_size": out_size, "in_size": in_size}
        ids = torch.randint(out_size, (100,))
        ours = look_up(packed, ids, **size, dtype=dtype)
        plain = weight if kind == "bf16" else unround(packed, **size)  # type: ignore[arg-type]
        assert torch.equal(ours, plain[ids].to(dtype))
        assert torch.equal(ours, look_up_reference(packed, ids, **size, dtype=dtype))
        for outside in (-1, out_size):
            with pytest.raises(IndexError, match=f"outside of 0 to {out_size - 1}"):
                look_up(packed, torch.tensor([0, outside]), **size, dtype=dtype)


def test_packing_loses_nothing(level: str) -> None:
    for size in SIZES:
        weight = torch.randn(size).to(BF16)
        assert torch.equal(unpack(pack(weight), *size), weight)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_rounding_is_off_by_half_a_step_but_at_the_last_codes(precision: Precision) -> None:
    weight = torch.randn(64, 96)
    groups, plain, scales = of_groups(round_to(precision, weight, 32), weight, 32)
    codes, error = plain / scales, ((plain - groups) / scales).abs()
    lowest = -8 if precision == "int4" else -128
    is_last = (codes == lowest) | (codes == -1 - lowest)
    assert error[~is_last].max() <= 0.5001
    # What lies beyond them is cut: a largest number of up to 9 steps, or one opposite to it, since there is no 8.
    assert error.max() <= (2.01 if precision == "int4" else 1.01)
    assert (error > 0.5001).float().mean() < 0.02


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_lowest_code_beside_the_largest_rows_does_not_overflow(
    level: str, precision: Precision, sign: float
) -> None:
    weight, x = torch.full((40, 256), -1.0), torch.full((7, 256), sign)
    ours = rounded_product(x, round_to(precision, weight, 128), None, out_size=40)
    assert torch.equal(ours.round(), torch.full((7, 40), -256 * sign))


# --- extremes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e18])
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_tiny_and_huge_numbers_give_finite_results(level: str, scale: float, precision: Precision) -> None:
    rounded = round_to(precision, torch.randn(40, 64) * scale, 32)
    assert rounded.scales.isfinite().all()
    assert rounded_product(torch.randn(3, 64) * scale, rounded, None, out_size=40).isfinite().all()
    zeros = round_to(precision, torch.zeros(40, 64), 32)
    assert rounded_product(torch.zeros(3, 64), zeros, None, out_size=40).eq(0).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")], ids=str)
def test_what_is_not_finite_spoils_its_own_row_alone(level: str, value: float) -> None:
    x, weight = torch.randn(9, 64).to(BF16), torch.randn(40, 64).to(BF16)
    x[4, 17] = value
    outs = [packed_product(x, pack(weight), None, out_size=40)]
    outs += [rounded_product(x, round_to(p, weight, 32), None, out_size=40) for p in ("int8", "int4")]
    for out in outs:
        assert not out[4].isfinite().any()
        assert out[torch.arange(9) != 4].isfinite().all()


def test_no_rows_give_no_rows(level: str) -> None:
    rounded = round_to("int8", torch.randn(40, 64), 32)
    assert rounded_product(torch.randn(2, 0, 64), rounded, None, out_size=40).shape == (2, 0, 40)


def test_rows_that_lie_apart_in_memory_are_read_where_they_are(level: str) -> None:
    wide, weight = torch.randn(6, 128).to(BF16), torch.randn(40, 64).to(BF16)
    apart = wide[:, ::2]
    expected = packed_product(apart.contiguous(), pack(weight), None, out_size=40)
    assert torch.equal(packed_product(apart, pack(weight), None, out_size=40), expected)


# --- attention ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_heads", "num_kv_heads", "head_dim", "value_dim"),
    [(4, 4, 16, 16), (6, 2, 64, 64), (5, 1, 32, 48), (8, 8, 80, 80), (7, 7, 12, 8)],
    ids=["one to one", "three to a key head", "values wider", "80 wide", "no whole vectors"],
)
@pytest.mark.parametrize("dtype", [FP32, BF16], ids=str)
def test_paged_decoding_is_attention(
    level: str,
    threads: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    value_dim: int,
    dtype: torch.dtype,
) -> None:
    lengths = torch.tensor([1, 255, 3, 700, 17], dtype=torch.int32)
    num_slots = 5 * 45 * 16
    q = torch.randn(5, num_heads, head_dim).to(dtype)
    k_pool, v_pool = (
        torch.randn(num_slots, num_kv_heads, width).to(dtype) for width in (head_dim, value_dim)
    )
    blocks = torch.randperm(5 * 45, dtype=torch.int32).view(5, 45)
    rules: list[dict[str, Any]] = [
        {}, {"window": 5}, {"window": 300}, {"soft_cap": 3.0}, {"window": 1, "soft_cap": 3.0}
    ]  # fmt: skip
    for rule in rules:
        said = {"block_size": 16, "scale": head_dim**-0.5, **rule}
        ours = paged_decode(q, k_pool, v_pool, blocks, lengths, **said)
        assert differ(ours, paged_decode_reference(q, k_pool, v_pool, blocks, lengths, **said)) < tolerance(
            dtype
        )
        alone = paged_decode(q[3:4], k_pool, v_pool, blocks[3:4], lengths[3:4], **said)
        assert torch.equal(alone[0], ours[3])


@pytest.mark.parametrize(
    ("num_heads", "num_kv_heads", "head_dim", "value_dim"),
    [(4, 4, 16, 16), (16, 8, 64, 64), (5, 1, 32, 48), (6, 2, 80, 80), (7, 7, 12, 8)],
    ids=["one to one", "two to a key head", "values wider", "80 wide", "no whole vectors"],
)
@pytest.mark.parametrize("dtype", [FP32, BF16], ids=str)
def test_attention_over_eight_bits_is_attention_over_what_they_stand_for(
    level: str, num_heads: int, num_kv_heads: int, head_dim: int, value_dim: int, dtype: torch.dtype
) -> None:
    k, v, scales = codes(48 * 16, num_kv_heads, head_dim, value_dim)
    blocks, lengths = torch.randperm(48, dtype=torch.int32).view(2, 24), torch.tensor([3, 380]).int()
    k_exact, v_exact = (x * scale[..., None] for x, scale in zip((k, v), scales, strict=True))
    q = torch.randn(9, num_heads, head_dim).to(dtype)
    rules: list[dict[str, Any]] = [{}, {"window": 300}, {"soft_cap": 3.0}]
    for rule in rules:
        said = {"block_size": 16, "scale": head_dim**-0.5, **rule}
        exact = paged_decode_reference(q[:2].float(), k_exact, v_exact, blocks, lengths, **said)
        out = paged_decode(q[:2], k, v, blocks, lengths, scales=scales, **said)
        assert differ(out, exact) < tolerance(dtype)
        alone = paged_decode(q[1:2], k, v, blocks[1:], lengths[1:], scales=scales, **said)
        assert torch.equal(alone[0], out[1])
        said = {"num_keys": 380, "is_causal": True, "blocks": blocks[1], **said}
        exact = prefill_attention_reference(q.float(), k_exact, v_exact, **said)
        out = prefill_attention(q, k, v, scales=scales, **said)
        assert differ(out, exact) < tolerance(dtype)
        if dtype is FP32:  # what is widened needs no rounding
            assert torch.equal(out, prefill_attention(q, k_exact, v_exact, **said))


def codes(num_slots: int, num_kv_heads: int, head_dim: int, value_dim: int) -> tuple[Tensor, Tensor, Scales]:
    """Keys and values in 8 bits, whose scales are far apart."""
    k, v = (
        torch.randint(-127, 128, (num_slots, num_kv_heads, width), dtype=torch.int8)
        for width in (head_dim, value_dim)
    )
    k_scale, v_scale = (torch.rand(num_slots, num_kv_heads) / 60 for _ in "kv")
    return k, v, (k_scale, v_scale)


@pytest.mark.parametrize("is_int8", [False, True], ids=["of one precision", "in 8 bits"])
def test_decoding_gets_the_same_bits_on_any_number_of_threads(level: str, is_int8: bool) -> None:
    if level == native.TWINS:
        pytest.skip("PyTorch picks its products by the number of threads")
    k, v, scales = codes(80 * 16, 4, 64, 64)
    if not is_int8:
        k, v = k.float() / 60, v.float()
    blocks, lengths = torch.randperm(80, dtype=torch.int32)[None], torch.tensor([1279]).int()
    q, before = torch.randn(1, 8, 64), torch.get_num_threads()
    said: dict[str, Any] = {"block_size": 16, "scale": 0.125, "scales": scales if is_int8 else None}
    outs = []
    for count in (1, 2, 5):  # each cuts the work into other tasks
        torch.set_num_threads(count)
        outs.append(paged_decode(q, k, v, blocks, lengths, **said))
    torch.set_num_threads(before)
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])


@pytest.mark.parametrize("place", ["key", "value"])
def test_a_scale_that_is_not_finite_spoils_its_own_sequence_alone(level: str, place: str) -> None:
    k, v, scales = codes(64, 2, 16, 16)
    scales[place == "value"][40] = float("nan")
    blocks, lengths = torch.arange(4, dtype=torch.int32).view(2, 2), torch.tensor([20, 30]).int()
    said: dict[str, Any] = {"block_size": 16, "scale": 0.25, "scales": scales}
    out = paged_decode(torch.randn(2, 4, 16), k, v, blocks, lengths, **said)
    assert out[0].isfinite().all()
    assert out[1].isnan().all()


def test_a_query_that_is_not_a_number_spoils_its_own_sequence_alone(level: str) -> None:
    pool, blocks = torch.randn(64, 2, 16), torch.arange(4, dtype=torch.int32).view(2, 2)
    q = torch.randn(2, 4, 16)
    q[1, :, 3] = float("nan")
    lengths = torch.tensor([20, 30], dtype=torch.int32)
    out = paged_decode(q, pool, pool, blocks, lengths, block_size=16, scale=0.25, soft_cap=2.0)
    assert out[0].isfinite().all()
    assert out[1].isnan().all()


@pytest.mark.parametrize("length", [0, 33])
def test_a_length_that_the_blocks_do_not_hold_is_refused(level: str, length: int) -> None:
    pool, blocks = torch.randn(64, 1, 16), torch.zeros(1, 2, dtype=torch.int32)
    lengths = torch.tensor([length], dtype=torch.int32)
    with pytest.raises(ConfigError, match=r"do not fit 2 blocks of 16"):
        paged_decode(torch.randn(1, 1, 16), pool, pool, blocks, lengths, block_size=16, scale=1.0)


@pytest.mark.parametrize(
    ("num_heads", "num_kv_heads", "head_dim", "value_dim"),
    [(4, 4, 16, 16), (6, 2, 64, 64), (5, 1, 32, 48), (2, 2, 80, 80), (4, 2, 96, 96), (4, 2, 128, 128),
     (3, 1, 256, 256), (7, 7, 12, 8)],
    ids=["one to one", "three to a key head", "values wider", "80 wide", "96 wide", "128 wide", "256 wide",
         "no whole vectors"],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [FP32, BF16], ids=str)
def test_attention_of_a_prompt_is_attention(
    level: str,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    value_dim: int,
    dtype: torch.dtype,
) -> None:
    rules: list[dict[str, Any]] = [
        {}, {"window": 5}, {"window": 150}, {"soft_cap": 3.0}, {"window": 1, "soft_cap": 3.0}
    ]  # fmt: skip
    for num_queries, num_keys in [(1, 1), (7, 200), (50, 50), (130, 259)]:
        q = torch.randn(num_queries, num_heads, head_dim).to(dtype)
        k, v = (torch.randn(num_keys, num_kv_heads, width).to(dtype) for width in (head_dim, value_dim))
        for rule in [{**rule, "is_causal": is_causal} for rule in rules for is_causal in (True, False)]:
            said = {"num_keys": num_keys, "scale": head_dim**-0.5, **rule}
            exact = prefill_attention_reference(q.float(), k.float(), v.float(), **said)
            assert differ(prefill_attention(q, k, v, **said), exact) < tolerance(dtype)


@pytest.mark.parametrize(("num_queries", "num_keys"), [(1, 40), (20, 20), (9, 33)])
@pytest.mark.parametrize("dtype", [FP32, BF16], ids=str)
def test_rows_without_a_gradient_are_prompts_side_by_side(
    level: str, dtype: torch.dtype, num_queries: int, num_keys: int
) -> None:
    rules: list[dict[str, Any]] = [{}, {"window": 7}, {"soft_cap": 3.0}]
    for num_rows in (1, 3):
        q = torch.randn(num_rows, num_queries, 4, 32).to(dtype)
        k, v = (torch.randn(num_rows, num_keys, 2, width).to(dtype) for width in (32, 16))
        for rule in [{**rule, "is_causal": is_causal} for rule in rules for is_causal in (True, False)]:
            exact = rows_attention_reference(q.float(), k.float(), v.float(), scale=0.2, **rule)
            ours = rows_attention(q, k, v, scale=0.2, **rule)
            assert ours.dtype is dtype
            assert differ(ours, exact) < tolerance(dtype)


@pytest.mark.parametrize("dtype", [FP32, BF16], ids=str)
@pytest.mark.parametrize("window", [None, 40])
def test_a_prompt_gets_the_same_bits_whole_and_in_chunks_end_to_end_and_in_blocks(
    level: str, threads: int, dtype: torch.dtype, window: int | None
) -> None:
    if level == native.TWINS:
        pytest.skip("PyTorch picks its products by the number of rows")
    q, (k, v) = torch.randn(300, 6, 32).to(dtype), (torch.randn(304, 2, 32).to(dtype) for _ in "kv")
    rule: dict[str, Any] = {"is_causal": True, "scale": 0.2, "window": window}
    whole = prefill_attention(q, k, v, num_keys=300, **rule)
    order = torch.randperm(19, dtype=torch.int32)
    scattered = [torch.empty_like(x).unflatten(0, (19, 16)) for x in (k, v)]
    for pool, x in zip(scattered, (k, v), strict=True):
        pool[order.long()] = x.unflatten(0, (19, 16))
    pools = [pool.flatten(0, 1) for pool in scattered]
    torch.set_num_threads(3 - threads)
    begin = 0
    for size in (1, 2, 97, 130, 70):
        end = begin + size
        chunk = prefill_attention(q[begin:end], k, v, num_keys=end, **rule)
        in_blocks = prefill_attention(q[begin:end], *pools, num_keys=end, blocks=order, block_size=16, **rule)
        assert torch.equal(chunk, whole[begin:end])
        assert torch.equal(in_blocks, chunk)
        begin = end


def test_a_prompt_rounds_no_score(level: str) -> None:
    """With scores up to 48, where a score in bf16 is off by an eighth, the output is off by half a percent."""
    q, k, v = (torch.randn(400, 4, 64).to(BF16) for _ in "qkv")
    said: dict[str, Any] = {"num_keys": 400, "is_causal": True, "scale": 1.25}
    exact = prefill_attention_reference(q.float(), k.float(), v.float(), **said)
    assert differ(prefill_attention(q, k, v, **said), exact) < 5e-3


def test_a_row_of_a_prompt_that_is_not_a_number_spoils_itself_alone(level: str) -> None:
    q, k, v = (torch.randn(60, 2, 16) for _ in "qkv")
    q[30, 1, 3] = float("nan")
    out = prefill_attention(q, k, v, num_keys=60, is_causal=True, scale=0.25, soft_cap=2.0)
    assert out[30, 1].isnan().all()
    out[30, 1] = 0.0
    assert out.isfinite().all()


def test_a_query_that_sees_nothing_gets_what_its_twin_says(level: str) -> None:
    q, k, v = torch.randn(9, 2, 16), torch.randn(3, 2, 16), torch.randn(3, 2, 16)
    said: dict[str, Any] = {"num_keys": 3, "is_causal": False, "scale": 0.25, "window": 2}
    ours, twin = (f(q, k, v, **said) for f in (prefill_attention, prefill_attention_reference))
    torch.testing.assert_close(ours, twin, equal_nan=True, rtol=0, atol=1e-5)
    said = {"num_keys": 0, "is_causal": False, "scale": 0.25}
    assert prefill_attention(q, k, v, **said).eq(0).all()


@pytest.mark.parametrize(("num_keys", "num_blocks"), [(33, 2), (3, 2)])
def test_a_prompt_whose_keys_are_not_there_is_refused(level: str, num_keys: int, num_blocks: int) -> None:
    pool, blocks = torch.randn(64, 1, 16), torch.zeros(num_blocks, dtype=torch.int32)
    said: dict[str, Any] = {"is_causal": True, "scale": 1.0, "blocks": blocks, "block_size": 16}
    with pytest.raises(ConfigError, match=f"4 queries over {num_keys} keys, of which 32 are there"):
        prefill_attention(torch.randn(4, 1, 16), pool, pool, num_keys=num_keys, **said)


# --- between the products ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [FP32, BF16], ids=str)
@pytest.mark.parametrize("size", [1, 15, 64, 1000])
def test_norm_and_rotation_are_their_twins(level: str, threads: int, dtype: torch.dtype, size: int) -> None:
    x, weight = torch.randn(3, 100, size).to(dtype), torch.randn(size).to(dtype)
    assert differ(rms_norm(x, weight, 1e-5), rms_norm_reference(x, weight, 1e-5)) < tolerance(dtype)
    angles = torch.randn(3, 100, 1, size)
    heads = torch.randn(3, 100, 2, 2 * size).to(dtype)
    turned = rotate_halves(heads, angles.cos(), angles.sin())
    exact = rotate_halves_reference(heads.double(), angles.cos().double(), angles.sin().double())
    assert differ(turned, exact) < tolerance(dtype)


@pytest.mark.parametrize("size", [1, 15, 64, 1000])
def test_a_wide_stream_meets_narrow_weights_and_sums(level: str, threads: int, size: int) -> None:
    x, y, weight = torch.randn(3, 100, size), torch.randn(3, 100, size).to(BF16), torch.randn(size).to(BF16)
    assert torch.equal(add(x, y), x + y.float())
    assert torch.equal(add(y, y), y + y)
    normed = rms_norm(x, weight, 1e-5)
    assert normed.dtype is BF16
    assert differ(normed, rms_norm_reference(x, weight, 1e-5)) < tolerance(BF16)
    assert differ(normed, rms_norm_reference(x.double(), weight.double(), 1e-5)) < tolerance(BF16)


@pytest.mark.parametrize("dtype", [FP32, BF16], ids=str)
@pytest.mark.parametrize("activation", SIGMOIDS, ids=lambda activation: activation.__name__)
@pytest.mark.parametrize("size", [1, 15, 64, 1000])
def test_a_gate_is_its_twin(
    level: str, threads: int, dtype: torch.dtype, activation: Activation, size: int
) -> None:
    gate, up = (10 * torch.randn(3, 100, size).to(dtype) for _ in range(2))
    exact = activation(gate.double()) * up.double()
    assert differ(gated(gate, up, activation, SIGMOIDS[activation]), exact) < tolerance(dtype)


@pytest.mark.parametrize("activation", SIGMOIDS, ids=lambda activation: activation.__name__)
def test_a_gate_far_from_zero_is_open_or_shut(level: str, activation: Activation) -> None:
    gate = torch.tensor([-1e30, -1e4, -100.0, 100.0, 1e4, torch.nan])
    out = gated(gate, torch.ones(6), activation, SIGMOIDS[activation])
    assert out[1:3].abs().max() < 1e-30
    assert torch.equal(out[3:5], gate[3:5])
    assert out[5].isnan()


@pytest.mark.parametrize("dtype", [FP32, BF16], ids=str)
@pytest.mark.parametrize("shape", [(1, 7), (2, 5), (3, 1)], ids=str)
def test_tokens_that_lie_apart_are_as_those_that_lie_together(
    level: str, dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    side_by_side = torch.randn(*shape, 6, 32).to(dtype)
    angles, weight = torch.randn(*shape, 1, 16), torch.randn(32).to(dtype)
    of_two_parts = side_by_side.flatten(2).split(96, dim=-1)
    places = [side_by_side[:, :, 1:4], side_by_side[:, :, 2:3], side_by_side.transpose(0, 1)[:, :, :2]]
    assert rms_norm(places[0], weight, 1e-5).is_contiguous()
    for apart in places:
        together = apart.contiguous()
        assert torch.equal(rms_norm(apart, weight, 1e-5), rms_norm(together, weight, 1e-5))
        if apart.shape[:2] == shape:
            turned = rotate_halves(apart, angles.cos(), angles.sin())
            assert torch.equal(turned, rotate_halves(together, angles.cos(), angles.sin()))
    activation, sigmoid = next(iter(SIGMOIDS.items()))
    expected = gated(*(part.contiguous() for part in of_two_parts), activation, sigmoid)
    assert torch.equal(gated(*of_two_parts, activation, sigmoid), expected)


@pytest.mark.parametrize("dtype", [FP32, BF16], ids=str)
def test_keys_and_values_go_where_their_slots_are(level: str, dtype: torch.dtype) -> None:
    new = torch.randn(1, 5, 3, 16).to(dtype)
    k, v = new[:, :, :2], new[:, :, 1:, :12]
    slots = torch.tensor([8, 0, 3, 7, 2])
    for pool_dtype in (dtype, torch.float16):
        pools = [torch.zeros(9, 2, width, dtype=pool_dtype) for width in (16, 12)]
        store(*pools, slots, k, v)
        for pool, kept in zip(pools, (k, v), strict=True):
            assert torch.equal(pool[slots], kept[0].to(pool_dtype))
            assert pool[[1, 4, 5, 6]].eq(0).all()


@pytest.mark.parametrize("slot", [-1, 9])
def test_a_slot_that_is_not_in_the_pool_is_refused_and_nothing_is_stored(level: str, slot: int) -> None:
    if level == native.TWINS:
        pytest.skip("PyTorch's own check, which stores what comes before")
    pool, new = torch.zeros(9, 2, 16), torch.ones(2, 2, 16)
    with pytest.raises(IndexError, match="a slot is outside of 0 to 8"):
        store(pool, pool, torch.tensor([3, slot]), new, new)
    assert pool.eq(0).all()


# --- which kernel ------------------------------------------------------------------------------------------


def test_a_gradient_goes_through_the_twins() -> None:
    x = torch.randn(2, 64, requires_grad=True)
    rounded = round_to("int8", torch.randn(40, 64), 32)
    rounded_product(x, rounded, None, out_size=40).sum().backward()
    expected = unround(rounded, out_size=40, in_size=64).sum(dim=0)
    assert x.grad is not None
    assert differ(x.grad[0], expected) < 1e-5


def test_a_level_that_does_not_run_here_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'avx10' do not run here.*torch"):
        native.use("avx10")


def test_an_environment_variable_chooses_the_level() -> None:
    code = "from malmoi.nn.kernels import native; print(native.level())"
    environment = {**os.environ, native.VARIABLE: "torch"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "torch"


@pytest.mark.skipif(native.levels() == [native.TWINS], reason="built without a compiler")
def test_the_kernels_share_the_threads_of_pytorch() -> None:
    from malmoi.nn.kernels import _native

    assert _native.has_threads()
