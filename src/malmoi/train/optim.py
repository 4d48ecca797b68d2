"""Optimisers: Muon for the matrices inside the blocks, AdamW for embeddings, head and vectors.

    gradients -> Optimizers.clip -> set_factor (the schedule) -> step

Read next: `schedule.py` (who says the factor), `loop.py` (who calls).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn

from malmoi.core.errors import ConfigError
from malmoi.nn.linear import Linear


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How gradients become updates. `kind="adamw"` gives the blocks' matrices to AdamW too.

    `lr` is the peak rate of both optimisers: Muon's update is scaled to AdamW's size (see `Muon`).
    `embedding_lr` multiplies it for embeddings and a separate head, whose rows are rarely touched. `betas` are
    AdamW's, `momentum` is Muon's. Gradients whose norm exceeds `clip_norm` are scaled down to it.
    """

    kind: Literal["adamw", "muon"] = "muon"
    lr: float = 2e-3
    embedding_lr: float = 1.0
    betas: tuple[float, float] = (0.9, 0.95)
    momentum: float = 0.95
    weight_decay: float = 0.1
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lr", "embedding_lr", "clip_norm"):
            if not (value := getattr(self, name)) > 0:
                raise ConfigError(f"{name}={value} is not positive. Nothing would be learned.")
        if not all(0 <= decay < 1 for decay in (*self.betas, self.momentum)):
            raise ConfigError(
                f"betas={self.betas}, momentum={self.momentum}: each is a decay. Give 0 or more, but less than 1."
            )
        if not self.weight_decay >= 0:
            raise ConfigError(f"weight_decay={self.weight_decay} is negative. Give 0 or more.")


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    The update of a matrix is its momentum with every singular value moved near 1, by five Newton-Schulz steps.
    As in Moonlight (Liu et al. 2025, arXiv:2502.16982, section 2.2) it is scaled by 0.2 sqrt(larger side), which
    gives it the root mean square that AdamW's updates have, so that both share one learning rate. Our difference:
    matrices of one shape are orthogonalised as a batch, which on a processor is several times faster.
    A parameter of three dimensions is a stack of matrices, as the experts of a layer are.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], *, lr: float, momentum: float, weight_decay: float
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient (mutates it, and its momentum)."""
        assert closure is None, "Muon never evaluates the loss again"
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                self._step_together(parameters, group)
        return None

    def _step_together(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """One step for matrices of one shape, each operation for all of them: a GPU is not to wait for Python."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        velocities = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(velocities, gradients, 1 - group["momentum"])
        directions = torch._foreach_lerp(gradients, velocities, group["momentum"])  # Nesterov
        updates = orthogonalise(torch.stack(directions)).to(parameters[0].dtype)
        scale = 0.2 * max(parameters[0].shape[-2:]) ** 0.5
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, updates.unbind(), alpha=-group["lr"] * scale)


def orthogonalise(matrices: Float[Tensor, "*batch M N"], *, steps: int = 5) -> Float[Tensor, "*batch M N"]:
    """Move every singular value of each matrix near 1, keeping its singular vectors. Computed in bf16.

    The quintic iteration and its coefficients are Jordan et al.'s: in five steps a singular value of at least 1/600
    of the Frobenius norm comes to lie between 0.68 and 1.20, not at 1 exactly, which serves as well.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16()
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT if is_tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram: Tensor = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if is_tall else x
    return result


class Optimizers:
    """The optimisers of one run behind one face, for the parameters of `model` (mutates them).

    Matrices inside blocks go to Muon (or AdamW with weight decay), embeddings and the head to AdamW, norms and
    biases to AdamW without decay. `all` holds PyTorch's optimisers by kind, for checkpoints.
    """

    def __init__(self, model: nn.Module, config: OptimConfig) -> None:
        self.config = config
        self.parameters = list(model.parameters())
        tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        heads = {"head", "head.0", "decoder.head"}  # a cap may follow it, an encoder stand beside it
        tables |= {id(m.weight) for n, m in model.named_modules() if n in heads and isinstance(m, Linear)}
        embeddings = [p for p in self.parameters if id(p) in tables]
        matrices = [p for p in self.parameters if p.ndim >= 2 and id(p) not in tables]
        vectors = [p for p in self.parameters if p.ndim < 2]
        groups: list[dict[str, Any]] = [
            {"params": embeddings, "lr": config.lr * config.embedding_lr, "weight_decay": 0.0},
            {"params": vectors, "lr": config.lr, "weight_decay": 0.0},
        ]
        self.all: dict[str, torch.optim.Optimizer] = {}
        if config.kind == "muon":
            self.all["muon"] = Muon(
                matrices, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
            )
        else:
            groups.append({"params": matrices, "lr": config.lr, "weight_decay": config.weight_decay})
        is_real = not any(parameter.is_meta for parameter in self.parameters)  # the fused kernel wants memory
        self.all["adamw"] = torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=is_real)
        for optimizer in self.all.values():
            for group in optimizer.param_groups:
                group["peak_lr"] = group["lr"]

    def of_kind(self, kind: Literal["adamw", "muon"]) -> list[nn.Parameter]:
        """The parameters that this one updates."""
        return [parameter for group in self.all[kind].param_groups for parameter in group["params"]]

    def clip(self) -> Float[Tensor, ""]:
        """Scale the gradients down to `clip_norm` if they exceed it; returns their norm before."""
        return nn.utils.clip_grad_norm_(self.parameters, self.config.clip_norm, foreach=True)

    def set_factor(self, factor: float) -> None:
        """Set every learning rate to `factor` of its peak."""
        for optimizer in self.all.values():
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor

    def step(self) -> None:
        """Update the parameters and forget the gradients."""
        for optimizer in self.all.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
