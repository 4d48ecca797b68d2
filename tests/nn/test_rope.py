"""Rotary positions: what a rotation is, and every scaling as transformers computes it."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from malmoi.core.errors import ConfigError
from malmoi.nn.rope import Rope, RopeConfig, rotate, rotate_neighbours
from malmoi.nn.rope_scaling import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    ProportionalScaling,
    RopeScaling,
    YarnScaling,
)

HEAD_DIM = 16
ORIGINAL, STRETCHED = 64, 256
SHORT, LONG = [1 + 0.1 * i for i in range(8)], [2 + 0.5 * i for i in range(8)]

# Ours, and the same for transformers.
SCALINGS: dict[str, tuple[RopeScaling, dict[str, Any]]] = {
    "linear": (LinearScaling(factor=4.0), {"factor": 4.0}),
    "dynamic": (DynamicScaling(factor=2.0, max_positions=STRETCHED), {"factor": 2.0}),
    "proportional": (
        ProportionalScaling(factor=2.0, partial_rotary_factor=0.4),
        {"factor": 2.0, "partial_rotary_factor": 0.4},
    ),
    "yarn": (
        YarnScaling(factor=4.0, original_max_positions=ORIGINAL, beta_fast=8.0),
        {"factor": 4.0, "original_max_position_embeddings": ORIGINAL, "beta_fast": 8.0},
    ),
    "longrope": (
        LongRopeScaling(
            factor=4.0,
            original_max_positions=ORIGINAL,
            short_factor=tuple(SHORT),
            long_factor=tuple(LONG),
        ),
        {
            "factor": 4.0,
            "original_max_position_embeddings": ORIGINAL,
            "short_factor": SHORT,
            "long_factor": LONG,
        },
    ),
    "llama3": (
        Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=ORIGINAL),
        {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": ORIGINAL,
        },
    ),
}
YARN_VARIANTS = [
    {"truncate": False},
    {"attention_factor": 1.5},
    {"mscale": 0.7, "mscale_all_dim": 1.3},
    {"factor": 1.0},
    {"beta_fast": 1e9, "beta_slow": 1e8},  # a ramp of zero width
]


def theirs(kind: str, parameters: dict[str, Any], length: int) -> tuple[torch.Tensor, float]:
    config = LlamaConfig(
        hidden_size=64,
        num_attention_heads=4,
        max_position_embeddings=STRETCHED,
        rope_parameters={"rope_type": kind, "rope_theta": 1e4, **parameters},
    )
    frequencies, magnitude = ROPE_INIT_FUNCTIONS[kind](config, None, length)
    return frequencies, magnitude


def test_every_scaling_of_transformers_is_compared() -> None:
    assert SCALINGS.keys() == ROPE_INIT_FUNCTIONS.keys()


@pytest.mark.parametrize("length", [1, ORIGINAL, ORIGINAL + 1, STRETCHED, 3 * STRETCHED])
@pytest.mark.parametrize("kind", SCALINGS)
def test_scaled_frequencies_equal_transformers_to_the_last_bit(kind: str, length: int) -> None:
    scaling, parameters = SCALINGS[kind]
    frequencies, magnitude = theirs(kind, parameters, length)
    assert torch.equal(RopeConfig(scaling=scaling).frequencies(HEAD_DIM, length), frequencies)
    assert scaling.magnitude == magnitude


@pytest.mark.parametrize("changes", YARN_VARIANTS)
def test_yarn_with_each_option_equals_transformers(changes: dict[str, Any]) -> None:
    ours = {"factor": 4.0, "original_max_positions": ORIGINAL} | changes
    parameters = {"factor": 4.0, "original_max_position_embeddings": ORIGINAL} | changes
    frequencies, magnitude = theirs("yarn", parameters, 1)
    scaling = YarnScaling(**ours)
    assert torch.equal(scaling.frequencies(1e4, HEAD_DIM, 1), frequencies)
    assert scaling.magnitude == pytest.approx(magnitude)


def turned(x: torch.Tensor, position: int, config: RopeConfig | None = None) -> torch.Tensor:
    """One vector as it looks at a position of a long sequence."""
    rope = Rope(config or RopeConfig(), HEAD_DIM)
    rotation = rope(torch.tensor([[position]]), torch.tensor([[4 * STRETCHED]]))
    return rotate(x.view(1, 1, 1, HEAD_DIM), rotation).flatten()


@given(
    positions=st.tuples(st.integers(0, 500), st.integers(0, 500)),
    shift=st.integers(0, 500),
    kind=st.sampled_from([None, *SCALINGS]),
)
def test_rope_is_relative_under_shift(positions: tuple[int, int], shift: int, kind: str | None) -> None:
    config = RopeConfig(scaling=SCALINGS[kind][0] if kind else None)
    q, k = torch.randn(2, HEAD_DIM, generator=torch.Generator().manual_seed(0))
    score, shifted = (
        turned(q, positions[0] + by, config) @ turned(k, positions[1] + by, config) for by in (0, shift)
    )
    assert torch.isclose(score, shifted, atol=2e-3)  # angles near 1,000 are right to 6e-5 in fp32


@given(position=st.integers(0, 100_000))
def test_a_rotation_keeps_norms(position: int) -> None:
    x = torch.randn(HEAD_DIM, generator=torch.Generator().manual_seed(0))
    assert torch.isclose(turned(x, position).norm(), x.norm())


def test_position_zero_turns_nothing() -> None:
    x = torch.randn(HEAD_DIM)
    assert torch.equal(turned(x, 0), x)


def test_the_magnitude_stretches_queries_and_keys() -> None:
    x = torch.randn(HEAD_DIM)
    scaling = YarnScaling(factor=4.0, original_max_positions=ORIGINAL)
    stretched = turned(x, 9, RopeConfig(scaling=scaling))
    assert torch.isclose(stretched.norm(), scaling.magnitude * x.norm())


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_each_sequence_turns_by_its_own_length_alone_and_in_a_batch(kind: str) -> None:
    rope = Rope(RopeConfig(scaling=SCALINGS[kind][0]), HEAD_DIM)
    lengths = [3, STRETCHED + 9, ORIGINAL, 4 * STRETCHED]
    ranges = [torch.arange(length) for length in lengths]
    packed = rope(
        torch.cat(ranges)[None], torch.cat([torch.full((length,), length) for length in lengths])[None]
    )
    alone = [rope(r[None], torch.full_like(r, len(r))[None]) for r in ranges]
    assert torch.equal(packed.cos, torch.cat([rotation.cos for rotation in alone], dim=1))
    assert torch.equal(packed.sin, torch.cat([rotation.sin for rotation in alone], dim=1))


@pytest.mark.parametrize("kind", [None, *SCALINGS])
def test_frequencies_stay_fp32_and_follow_the_device(kind: str | None) -> None:
    rope = Rope(RopeConfig(scaling=SCALINGS[kind][0] if kind else None), HEAD_DIM)
    before = rope.frequencies.clone()
    model = nn.Sequential(rope).to(torch.bfloat16)
    assert rope.frequencies.dtype == torch.float32
    assert torch.equal(rope.frequencies, before)
    model.to("meta")  # stands for any other device
    assert rope.frequencies.device.type == "meta"
    model.to_empty(device="cpu")
    assert torch.equal(rope.frequencies, before)


def test_rope_is_built_where_no_memory_is() -> None:
    with torch.device("meta"):
        ropes = [Rope(RopeConfig(scaling=scaling), HEAD_DIM) for scaling, _ in SCALINGS.values()]
    assert all(rope.frequencies.device.type == "cpu" for rope in ropes)


def test_rope_turns_where_its_positions_are() -> None:
    """Built on the meta device it waits for weights, but shapes can be asked for before."""
    with torch.device("meta"):
        rope = Rope(RopeConfig(), HEAD_DIM)
        positions = torch.zeros(1, 3, dtype=torch.long)
    assert rope(positions, positions).cos.is_meta
    assert rope(torch.zeros(1, 3, dtype=torch.long), torch.ones(1, 3, dtype=torch.long)).cos.eq(1).all()


def longrope(**changes: Any) -> LongRopeScaling:
    values = {"short_factor": (1.0, 1.0), "long_factor": (2.0, 4.0), "original_max_positions": 8}
    return LongRopeScaling(factor=4.0, **(values | changes))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rope(RopeConfig(), 15), "head_dim=15 is odd"),
        (lambda: RopeConfig(theta=0.0), "theta=0.0 is not above 1"),
        (lambda: LinearScaling(factor=0.0), "factor=0.0 of a rotary scaling is not above 0"),
        (lambda: Rope(RopeConfig(scaling=SCALINGS["longrope"][0]), 32), "short_factor has 8 numbers, but"),
        (lambda: Rope(RopeConfig(scaling=longrope(long_factor=(2.0,))), 4), "long_factor has 1 numbers, but"),
        (
            lambda: longrope(long_factor=(2.0, 0.0)),
            r"long_factor\[1\]=0.0 of a rotary scaling is not above 0",
        ),
        (lambda: longrope(original_max_positions=1), "original_max_positions=1 .* is not above 1"),
        (lambda: longrope(attention_factor=-1.0), "attention_factor=-1.0 .* is not above 0"),
        (lambda: LinearScaling(factor=float("inf")), "factor=inf .* is not above 0 and finite"),
        (
            lambda: Rope(RopeConfig(scaling=DynamicScaling(factor=2.0, max_positions=8)), 2),
            "the one pair of head_dim=2 does not depend on it",
        ),
        (lambda: DynamicScaling(factor=2.0, max_positions=0), "max_positions=0 .* is not above 0"),
        (
            lambda: YarnScaling(factor=2.0, original_max_positions=0),
            "original_max_positions=0 .* not above 0",
        ),
        (
            lambda: YarnScaling(factor=2.0, original_max_positions=8, beta_slow=0.0),
            "beta_slow=0.0 .* not above 0",
        ),
        (lambda: ProportionalScaling(partial_rotary_factor=1.5), "partial_rotary_factor=1.5 is no part"),
        (
            lambda: Llama3Scaling(
                factor=8.0, low_freq_factor=4.0, high_freq_factor=1.0, original_max_positions=64
            ),
            "low_freq_factor=4.0 is not below high_freq_factor=1.0",
        ),
    ],
)
def test_numbers_without_sense_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_neighbours_turn_as_complex_numbers_do() -> None:
    x, positions = torch.randn(2, 5, 3, 8), torch.arange(5).expand(2, -1)
    rope = Rope(RopeConfig(theta=100.0), head_dim=8)
    angles = positions[..., None, None] * rope.frequencies
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.polar(torch.ones_like(angles), angles)
    out = rotate_neighbours(x, rope(positions, torch.full_like(positions, 5)))
    torch.testing.assert_close(out, torch.view_as_real(turned).flatten(-2))


def test_pairs_of_neighbours_and_of_halves_differ_by_a_permutation() -> None:
    x, positions = torch.randn(2, 5, 3, 8), torch.arange(5).expand(2, -1)
    rotation = Rope(RopeConfig(theta=100.0), head_dim=8)(positions, torch.full_like(positions, 5))
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])
    torch.testing.assert_close(rotate_neighbours(x, rotation)[..., order], rotate(x[..., order], rotation))
