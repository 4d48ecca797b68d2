"""Laws of train/optim.py: every parameter has one optimiser, and each optimiser is what its paper says."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from malmoi.core.errors import ConfigError
from malmoi.models import build_model, initialise, llama
from malmoi.models.gpt2 import GPT2Config
from malmoi.nn.stack import Decoder
from malmoi.train.optim import Muon, OptimConfig, Optimizers, orthogonalise

TINY_GPT2 = GPT2Config(
    vocab_size=64, hidden_size=16, num_layers=2, num_heads=4, intermediate_size=24, max_positions=32
)


def tiny_llama() -> Decoder:
    return initialise(build_model(llama.sized(2, vocab_size=40, max_positions=32)), seed=0)


def set_gradients(model: nn.Module, scale: float = 1.0) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * scale


def with_singular_values(m: int, n: int, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A matrix of these singular values, and its singular vectors."""
    u, v = (torch.linalg.qr(torch.randn(size, len(values)))[0] for size in (m, n))
    return u @ values.diag() @ v.T, u, v


@pytest.mark.parametrize(("m", "n"), [(64, 64), (64, 176), (176, 64), (8, 128)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_orthogonalise_moves_singular_values_near_one_and_keeps_the_vectors(
    m: int, n: int, scale: float
) -> None:
    size = min(m, n)
    matrix, u, v = with_singular_values(m, n, torch.logspace(0, -1.5, size) * scale)
    x = orthogonalise(matrix).float()
    values = torch.linalg.svdvals(x)
    assert values.min() > 0.5
    assert values.max() < 1.3
    inside = u.T @ x @ v
    assert (inside - inside.diag().diag()).abs().max() < 0.1, "x is diagonal between the matrix's own vectors"


@pytest.mark.parametrize("shape", [(3, 8, 20), (3, 20, 8), (2, 3, 8, 8)])
def test_orthogonalising_a_batch_is_orthogonalising_each_matrix(shape: tuple[int, ...]) -> None:
    batch = torch.randn(shape)
    singly = torch.stack([orthogonalise(matrix) for matrix in batch.flatten(0, -3)]).view(shape)
    torch.testing.assert_close(orthogonalise(batch), singly, atol=0.02, rtol=0.02)


class PlainMuon:
    """Muon as its page tells it: one matrix at a time, singular values by five steps of Newton and Schulz."""

    def __init__(self, matrices: list[Tensor], *, lr: float, momentum: float, weight_decay: float) -> None:
        self.matrices, self.lr, self.beta, self.decay = matrices, lr, momentum, weight_decay
        self.velocities = [torch.zeros_like(w) for w in matrices]

    def step(self, gradients: list[Tensor]) -> None:
        for w, v, g in zip(self.matrices, self.velocities, gradients, strict=True):
            v.copy_(self.beta * v + (1 - self.beta) * g)
            nesterov = self.beta * v + (1 - self.beta) * g
            x = nesterov / nesterov.norm()
            for _ in range(5):
                x = 3.4445 * x - 4.7750 * (x @ x.T) @ x + 2.0315 * (x @ x.T) @ (x @ x.T) @ x
            w.copy_(w - self.lr * self.decay * w - self.lr * 0.2 * max(w.shape) ** 0.5 * x)


def test_muon_is_the_plain_algorithm_up_to_bf16() -> None:
    shapes = [(16, 16), (8, 24), (16, 16), (24, 8)]
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [p.detach().clone() for p in ours]
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.2}
    muon, plain = Muon(ours, **settings), PlainMuon(theirs, **settings)
    for _ in range(4):
        gradients = [torch.randn(shape) for shape in shapes]
        for parameter, gradient in zip(ours, gradients, strict=True):
            parameter.grad = gradient.clone()
        before = [p.detach().clone() for p in ours]
        muon.step()
        plain.step(gradients)
        for now, then, wanted in zip(ours, before, theirs, strict=True):
            assert (now - wanted).norm() < 0.06 * (now - then).norm()
            with torch.no_grad():
                now.copy_(wanted)  # so that rounding does not add up


def test_muon_treats_a_stack_of_matrices_as_so_many_matrices() -> None:
    weights, gradients = torch.randn(3, 8, 24), torch.randn(3, 8, 24)
    stack, singles = nn.Parameter(weights.clone()), [nn.Parameter(w.clone()) for w in weights]
    stack.grad = gradients
    for single, gradient in zip(singles, gradients, strict=True):
        single.grad = gradient
    for parameters in ([stack], singles):
        Muon(parameters, lr=0.1, momentum=0.9, weight_decay=0.1).step()
    torch.testing.assert_close(stack.detach(), torch.stack([s.detach() for s in singles]))


def test_adamw_is_pytorchs_with_clipping_and_decay_of_matrices_only() -> None:
    model, twin = tiny_llama(), tiny_llama()
    config = OptimConfig(kind="adamw", lr=1e-2, weight_decay=0.5, betas=(0.8, 0.9), clip_norm=0.7)
    ours = Optimizers(model, config)
    decayed = [p for n, p in twin.named_parameters() if p.ndim == 2 and "embedding" not in n]
    others = [p for n, p in twin.named_parameters() if p.ndim < 2 or "embedding" in n]
    groups = [{"params": decayed, "weight_decay": 0.5}, {"params": others, "weight_decay": 0.0}]
    theirs = torch.optim.AdamW(groups, lr=1e-2, betas=(0.8, 0.9))
    for _ in range(3):
        set_gradients(model)
        for parameter, source in zip(twin.parameters(), model.parameters(), strict=True):
            parameter.grad = source.grad.clone()
        norm = nn.utils.clip_grad_norm_(twin.parameters(), 0.7)
        assert float(ours.clip()) == pytest.approx(float(norm), rel=1e-5)
        ours.step()
        theirs.step()
    for got, wanted in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(got, wanted)


def models() -> Iterator[Decoder]:
    yield tiny_llama()
    yield build_model(TINY_GPT2)
    untied = llama.LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_layers=1, num_heads=2, num_kv_heads=1,
        head_dim=8, max_positions=32, has_attention_bias=True,
    )  # fmt: skip
    yield build_model(untied)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_every_parameter_of_every_family_belongs_to_exactly_one_optimiser(kind: str) -> None:
    for model in models():
        optimizers = Optimizers(model, OptimConfig(kind=kind))
        owned = [p for o in optimizers.all.values() for group in o.param_groups for p in group["params"]]
        assert sorted(map(id, owned)) == sorted(map(id, model.parameters()))


def test_muon_gets_the_matrices_inside_blocks_and_no_table() -> None:
    for model in models():
        optimizers = Optimizers(model, OptimConfig(kind="muon"))
        owned = {id(p) for group in optimizers.all["muon"].param_groups for p in group["params"]}
        assert owned == {
            id(p) for n, p in model.named_parameters() if n.startswith("blocks.") and p.ndim == 2
        }


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_without_a_gradient_only_matrices_decay(kind: str) -> None:
    model = tiny_llama()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    set_gradients(model, scale=0.0)
    Optimizers(model, OptimConfig(kind=kind, lr=0.5, weight_decay=0.1)).step()
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim == 2 and "embedding" not in name
        torch.testing.assert_close(parameter.detach(), before[name] * (0.95 if is_matrix else 1.0))


def test_a_factor_scales_every_rate_from_its_peak() -> None:
    optimizers = Optimizers(tiny_llama(), OptimConfig(lr=1e-2, embedding_lr=3.0))
    for factor in (0.5, 0.25):
        optimizers.set_factor(factor)
        rates = {group["lr"] for o in optimizers.all.values() for group in o.param_groups}
        assert rates == {1e-2 * factor, 3e-2 * factor}


@pytest.mark.parametrize(
    "settings",
    [{"lr": 0.0}, {"clip_norm": -1.0}, {"lr": float("nan")}, {"betas": (0.9, 1.0)}, {"weight_decay": -0.1}],
)
def test_settings_out_of_range_are_refused_by_name(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=rf"{next(iter(settings))}.* Give|{next(iter(settings))}.*Nothing"):
        OptimConfig(**settings)
