"""Recurrent cells: how a state becomes the next one, one function a cell, as it is written on paper.

A cell gets what the matrices made of the input and of the state, `from_input = W x + b` and `from_state = U h + c`,
its gates side by side. Place in the flow: `kernels/recurrence.py` runs a cell over a sequence, `recurrent` owns the
matrices. Read next: `kernels/recurrence.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from malmoi.nn.state import State

CellKind = Literal["elman", "lstm", "gru"]


def elman(from_input: Float[Tensor, "B D"], from_state: Float[Tensor, "B D"], state: State) -> State:
    """The simple recurrent network, h' = tanh(W x + U h) (Elman 1990, Finding Structure in Time).

    Through n steps a gradient is multiplied n times by U and by a tanh' of at most 1, so it vanishes or explodes.
    Our difference: tanh, where Elman has the logistic function.

    >>> elman(torch.tensor([[0.3]]), torch.tensor([[0.2]]), (torch.tensor([[0.9]]),))   # tanh(0.5)
    (tensor([[0.4621]]),)
    """
    return ((from_input + from_state).tanh(),)


def lstm(from_input: Float[Tensor, "B gates"], from_state: Float[Tensor, "B gates"], state: State) -> State:
    """The cell c' = f c + i g is a sum, so what one step puts in lasts as long as the forget gate f stays open.

    Hochreiter & Schmidhuber 1997, Long Short-Term Memory. Our difference is everybody's: they had no forget gate
    (f = 1 always); it is that of Gers et al. 2000, Learning to Forget. The gates lie as i f g o.

    A shut input gate and an open forget gate keep a cell of 2:

    >>> gates = torch.tensor([[-50.0, 50.0, 0.0, 50.0]])
    >>> lstm(gates, torch.zeros(1, 4), (torch.tensor([[0.0]]), torch.tensor([[2.0]])))   # h' = tanh(2)
    (tensor([[0.9640]]), tensor([[2.]]))
    """
    i, f, g, o = (from_input + from_state).chunk(4, dim=-1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru(from_input: Float[Tensor, "B gates"], from_state: Float[Tensor, "B gates"], state: State) -> State:
    """One gate z says both what stays of h and what comes in of the proposal n: h' = z h + (1 - z) n.

    Cho et al. 2014, arXiv:1406.1078, section 2.3. Our difference is PyTorch's: the reset gate multiplies U h, where
    the paper multiplies h before U does, so that U is one matrix for all three. The gates lie as r z n.

    A shut reset gate forgets the state in the proposal, an open update gate would keep it:

    >>> half_open = torch.tensor([[-50.0, 0.0, 50.0]])   # r = 0, z = 1/2, n = 1
    >>> gru(half_open, torch.zeros(1, 3), (torch.tensor([[0.4]]),))
    (tensor([[0.7000]]),)
    """
    (h,) = state
    (r, z, n), (from_r, from_z, from_n) = from_input.chunk(3, dim=-1), from_state.chunk(3, dim=-1)
    update = (z + from_z).sigmoid()
    proposal = (n + (r + from_r).sigmoid() * from_n).tanh()
    return (update * h + (1 - update) * proposal,)


@dataclass(frozen=True)
class Cell:
    """One step, how many gates it wants side by side, and how many vectors its state has; the first is its output."""

    step: Callable[[Tensor, Tensor, State], State]
    num_gates: int
    num_vectors: int


CELLS: dict[CellKind, Cell] = {
    "elman": Cell(elman, num_gates=1, num_vectors=1),
    "lstm": Cell(lstm, num_gates=4, num_vectors=2),
    "gru": Cell(gru, num_gates=3, num_vectors=1),
}
