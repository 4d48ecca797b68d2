"""The demonstration of `runs/gradient_by_lag.py` shows what the theory says."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor


@pytest.fixture(scope="module")
def script() -> ModuleType:
    file = Path(__file__).parents[2] / "runs" / "gradient_by_lag.py"
    spec = importlib.util.spec_from_file_location("gradient_by_lag", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def median_norms(script: ModuleType, **setting: object) -> Tensor:
    one = script.Setting(label="", color="", **setting)
    norms = [script.gradient_norms(one, seed=seed, num_lags=60) for seed in range(5)]
    return torch.stack(norms).median(dim=0).values


def test_below_a_radius_of_one_no_gradient_decays_slower_than_its_powers(script: ModuleType) -> None:
    """Pascanu et al. 2013, section 2.1: a tanh only shrinks it further."""
    norms = median_norms(script, kind="elman", radius=0.9)
    assert (norms <= 0.9 ** torch.arange(61) + 1e-12).all()


def test_well_above_a_radius_of_one_gradients_explode(script: ModuleType) -> None:
    norms = median_norms(script, kind="elman", radius=2.0)
    assert norms[30] > 30
    assert norms[60] > 100 * norms[20]


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_an_open_gate_keeps_the_gradient_and_a_half_open_one_loses_it(script: ModuleType, kind: str) -> None:
    assert 0.3 < median_norms(script, kind=kind, gate_bias=5.0)[60] < 3
    assert median_norms(script, kind=kind)[60] < 1e-6


def test_step_by_step_is_the_gradient_through_the_whole_sequence(script: ModuleType) -> None:
    setting = script.Setting(label="", color="", kind="gru")
    generator = torch.Generator().manual_seed(0)
    from_input, u = script.weights(setting, generator, num_steps=40)
    states = [
        h.requires_grad_()
        for (h,) in script.run(setting, from_input, u.requires_grad_(), script.zero_state(setting))
    ]
    direction = torch.randn(script.WIDTH, generator=generator, dtype=torch.float64)
    gradients = torch.autograd.grad((states[-1] @ direction).sum() / direction.norm(), states[20:])
    wanted = torch.stack([gradient.norm() for gradient in reversed(gradients)])
    torch.testing.assert_close(script.gradient_norms(setting, seed=0, num_lags=20), wanted)
