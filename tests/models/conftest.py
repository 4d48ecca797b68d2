"""Tiny configurations of every family, and what the laws of models share.

A new family adds its shapes to `TINY`: plain, and with every option that its page has.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from malmoi.models.gpt2 import GPT2Config
from malmoi.models.llama import LlamaConfig
from malmoi.nn.rope import RopeConfig
from malmoi.nn.rope_scaling import Llama3Scaling

SMALL: dict[str, Any] = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_layers": 2}
TINY: dict[str, Any] = {
    "llama": LlamaConfig(**SMALL, num_heads=4, num_kv_heads=4, head_dim=6, max_positions=64),
    "llama, all options": LlamaConfig(
        **SMALL,
        num_heads=4,
        num_kv_heads=2,
        head_dim=10,
        max_positions=64,
        norm_eps=1e-4,
        rope=RopeConfig(
            theta=500.0,
            scaling=Llama3Scaling(
                factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=16
            ),
        ),
        is_tied=True,
        has_attention_bias=True,
        has_mlp_bias=True,
    ),
    "gpt2": GPT2Config(**SMALL, num_heads=4, max_positions=64),
    "gpt2, all options": GPT2Config(
        **SMALL,
        num_heads=3,
        max_positions=32,
        norm_eps=1e-4,
        is_tied=False,
        is_scaled=False,
        scales_by_layer=True,
    ),
}


@pytest.fixture(params=TINY)
def config(request: pytest.FixtureRequest) -> Any:
    """Each tiny configuration in turn."""
    return TINY[request.param]


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """All of them, by name."""
    return TINY


@pytest.fixture(scope="session")
def randomise() -> Callable[[Any], Any]:
    """A function that gives a model weights which nothing can be confused with: no zero bias, no norm of ones."""

    @torch.no_grad()
    def change(model: nn.Module) -> nn.Module:
        generator = torch.Generator().manual_seed(1)
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.empty_like(parameter).normal_(std=0.3, generator=generator))
            else:
                parameter.normal_(std=0.3, generator=generator)
        return model

    return change


@pytest.fixture(scope="session")
def assert_close() -> Callable[..., None]:
    """A function that compares within 1e-5 of the largest value, or as many as are said."""

    def check(ours: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
        assert ours.shape == wanted.shape
        assert ours.isfinite().all()
        difference = (ours.float() - wanted.float()).abs().max() / wanted.float().abs().max()
        assert difference <= tolerance, f"they differ by {difference:.1e} of the largest value"

    return check
