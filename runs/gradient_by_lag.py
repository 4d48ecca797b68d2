"""Draw how far back a recurrent network's gradients reach: vanishing, exploding, and kept by an open gate.

For a state s and a direction v at the last step, the norm of v's gradient at the state `lag` steps before (Bengio et
al. 1994, Learning Long-Term Dependencies with Gradient Descent is Difficult; Pascanu et al. 2013, arXiv:1211.5063,
section 2). Networks are random and untrained, inputs small and random.

    .venv/bin/python runs/gradient_by_lag.py          prints the table, writes docs/images/gradient-by-lag.png
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from malmoi.nn.cells import CELLS, CellKind
from malmoi.nn.state import State

WIDTH, INPUT_SIZE = 128, 0.1
LAGS = (1, 10, 30, 60, 100)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A cell whose state matrices are `radius` times orthogonal ones, so that all their eigenvalues have that size.

    `gate_bias` is that of the gate that keeps: f of an LSTM, z of a GRU.
    """

    label: str
    kind: CellKind
    color: str
    radius: float = 1.0
    gate_bias: float = 0.0


ELMAN = (
    Setting(label="radius 2", kind="elman", radius=2.0, color="#b2182b"),
    Setting(label="radius 1", kind="elman", radius=1.0, color="#ef8a62"),
    Setting(label="radius 0.9", kind="elman", radius=0.9, color="#8c6d5a"),
)
GATED = (
    Setting(label="LSTM, forget bias 5", kind="lstm", gate_bias=5.0, color="#08519c"),
    Setting(label="LSTM, forget bias 1", kind="lstm", gate_bias=1.0, color="#4292c6"),
    Setting(label="GRU, update bias 0", kind="gru", color="#238b45"),
    Setting(label="LSTM, forget bias 0", kind="lstm", color="#7aa6d6"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/images/gradient-by-lag.png"))
    parser.add_argument("--networks", type=int, default=20, help="random networks a curve")
    arguments = parser.parse_args()
    curves = {
        setting: torch.stack([gradient_norms(setting, seed=seed) for seed in range(arguments.networks)])
        for setting in ELMAN + GATED
    }
    print(f"{'lag':>22}" + "".join(f"{lag:>11}" for lag in LAGS))
    for setting, norms in curves.items():
        print(f"{name(setting):>22}" + "".join(f"{norms[:, lag].median():>11.1e}" for lag in LAGS))
    draw(curves).savefig(arguments.out, dpi=110)


def name(setting: Setting) -> str:
    return f"Elman, {setting.label}" if setting.kind == "elman" else setting.label


def gradient_norms(setting: Setting, *, seed: int, num_lags: int = 100) -> Tensor:
    """The norm of the gradient at each lag, 0 (where it is 1) to `num_lags`, after as many steps of warming up."""
    generator = torch.Generator().manual_seed(seed)
    from_input, u = weights(setting, generator, num_steps=2 * num_lags)
    states = list(run(setting, from_input, u, zero_state(setting)))
    gradient = [torch.randn(vector.shape, generator=generator, dtype=torch.float64) for vector in states[-1]]
    gradient = [vector / torch.cat(gradient, dim=1).norm() for vector in gradient]
    norms = [1.0]
    for step in range(2 * num_lags - 1, num_lags - 1, -1):
        before = tuple(vector.clone().requires_grad_() for vector in states[step])
        after = CELLS[setting.kind].step(from_input[step], before[0] @ u.T, before)
        gradient = list(torch.autograd.grad(after, before, gradient))
        norms.append(torch.cat(gradient, dim=1).norm().item())
    return torch.tensor(norms, dtype=torch.float64)


def weights(setting: Setting, generator: torch.Generator, *, num_steps: int) -> tuple[Tensor, Tensor]:
    """What the input adds to the gates at each step, and the matrix of the state, gates one above the other."""
    num_gates = CELLS[setting.kind].num_gates
    wide = {"generator": generator, "dtype": torch.float64}
    w = torch.randn(num_gates * WIDTH, WIDTH, **wide) / WIDTH**0.5
    u = torch.cat([torch.linalg.qr(torch.randn(WIDTH, WIDTH, **wide)).Q for _ in range(num_gates)])
    x = INPUT_SIZE * torch.randn(num_steps, WIDTH, **wide)
    bias = torch.zeros(num_gates * WIDTH, dtype=torch.float64)
    bias[WIDTH : 2 * WIDTH] = setting.gate_bias  # f of i f g o, z of r z n
    return (x @ w.T + bias)[:, None], setting.radius * u


def zero_state(setting: Setting) -> State:
    return tuple(torch.zeros(1, WIDTH, dtype=torch.float64) for _ in range(CELLS[setting.kind].num_vectors))


def run(setting: Setting, from_input: Tensor, u: Tensor, state: State) -> Iterator[State]:
    """The state before each step, and after the last."""
    yield state
    for row in from_input:
        state = CELLS[setting.kind].step(row, state[0] @ u.T, state)
        yield state


def draw(curves: dict[Setting, Tensor]) -> Figure:
    figure = Figure(figsize=(9.6, 4.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, title, settings in zip(axes, ("Elman network", "With gates"), (ELMAN, GATED), strict=True):
        draw_panel(axis, title, settings, curves)
    axes[0].set_ylabel("norm of the gradient (1 at lag 0)")
    figure.supxlabel("lag: steps back in time", fontsize=10)
    return figure


def draw_panel(axis: Axes, title: str, settings: Sequence[Setting], curves: dict[Setting, Tensor]) -> None:
    """The median of the networks of each setting, the middle 80 % as a band, and its label where it ends."""
    ends = {setting: curves[setting][:, -1].median().log10().item() for setting in settings}
    for setting in settings:
        near = [end - ends[setting] for other, end in ends.items() if other != setting]
        nudge = sum(-6 if 0 < distance < 1 else 6 if -1 < distance < 0 else 0 for distance in near)
        low, middle, high = curves[setting].quantile(torch.tensor([0.1, 0.5, 0.9]).double(), dim=0)
        axis.fill_between(range(len(middle)), low, high, color=setting.color, alpha=0.2, linewidth=0)
        axis.plot(middle, color=setting.color, linewidth=2)
        axis.annotate(
            setting.label,
            (len(middle) - 1, middle[-1].item()),
            xytext=(6, nudge),
            textcoords="offset points",
            color=setting.color,
            va="center",
            fontsize=9.5,
            annotation_clip=False,
        )
    axis.axhline(1, color="#999999", linewidth=0.8, linestyle=":")
    axis.set(yscale="log", xlim=(0, 100), ylim=(1e-15, 1e9))
    axis.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#eeeeee")


if __name__ == "__main__":
    main()
