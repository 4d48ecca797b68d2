"""A cell run over sequences: step by step as it is written on paper, and by PyTorch's fused loop.

`recurrence_reference` is the judge of `recurrence`, with the same signature (`tests/nn/test_recurrent.py`). Both
take rows, or sequences of any length end to end with `offsets` that say where each begins. Read `cells` first.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from malmoi.nn.cells import CELLS, CellKind
from malmoi.nn.state import State


class CellWeights(NamedTuple):
    """The matrices and biases of the input and of the state, the cell's gates side by side."""

    of_input: Float[Tensor, "gates I"]
    of_state: Float[Tensor, "gates D"]
    input_bias: Float[Tensor, " gates"]
    state_bias: Float[Tensor, " gates"]


def recurrence_reference(
    kind: CellKind,
    x: Float[Tensor, "B T I"],
    weights: CellWeights,
    state: State,
    offsets: Int[Tensor, " offsets"] | None = None,
) -> tuple[Float[Tensor, "B T D"], State]:
    """The outputs of every step and the states after the last; `state` has a row a sequence.

    >>> one = torch.ones(1, 1)
    >>> weights = CellWeights(one, one, torch.zeros(1), torch.zeros(1))
    >>> recurrence_reference("elman", torch.ones(1, 2, 1), weights, (torch.zeros(1, 1),))[0]   # tanh(1), tanh(1.7616)
    tensor([[[0.7616],
             [0.9427]]])
    """
    if offsets is None:
        outs = []
        for x_BI in x.unbind(dim=1):
            from_input = x_BI @ weights.of_input.T + weights.input_bias
            from_state = state[0] @ weights.of_state.T + weights.state_bias
            state = CELLS[kind].step(from_input, from_state, state)
            outs.append(state[0])
        return torch.stack(outs, dim=1), state
    alone = [
        recurrence_reference(kind, x[:, a:b], weights, tuple(vector[i : i + 1] for vector in state))
        for i, (a, b) in enumerate(pairwise(offsets.tolist()))
    ]
    states = zip(*(after for _, after in alone), strict=True)
    return torch.cat([out for out, _ in alone], dim=1), tuple(torch.cat(vectors) for vectors in states)


def recurrence(
    kind: CellKind,
    x: Float[Tensor, "B T I"],
    weights: CellWeights,
    state: State,
    offsets: Int[Tensor, " offsets"] | None = None,
) -> tuple[Float[Tensor, "B T D"], State]:
    """The fused twin of `recurrence_reference`. No sequence may be empty."""
    if offsets is None:
        options = {**_OPTIONS, "batch_first": True}
        out, *after = _FUSED[kind](x, _as_fused(state), weights, **options)
        return out, tuple(vector[0] for vector in after)
    order = time_major(offsets)
    into, back, sequences, undo = (
        index.to(x.device)
        for index in (order.tokens, order.tokens.argsort(), order.sequences, order.sequences.argsort())
    )
    state = tuple(vector[sequences] for vector in state)
    out, *after = _FUSED[kind](x[0, into], order.batch_sizes, _as_fused(state), weights, **_OPTIONS)
    return out[back][None], tuple(vector[0, undo] for vector in after)


class TimeMajor(NamedTuple):
    """The order in which PyTorch's loop wants packed sequences: all first tokens, all second ones, and so on.

    `tokens` and `sequences` are the old places in the new order, longest sequence first; `batch_sizes` says how many
    sequences still run at each step. On the CPU.
    """

    tokens: Int[Tensor, " T"]
    sequences: Int[Tensor, " sequences"]
    batch_sizes: Int[Tensor, " steps"]


def time_major(offsets: Int[Tensor, " offsets"]) -> TimeMajor:
    """From sequence after sequence to step after step.

    Of the sequences a and b c d (offsets 0, 1, 4), b c d is the longer: b a | c | d.

    >>> time_major(torch.tensor([0, 1, 4]))
    TimeMajor(tokens=tensor([1, 0, 2, 3]), sequences=tensor([1, 0]), batch_sizes=tensor([2, 1, 1]))
    """
    lengths = offsets.diff()
    sequences = lengths.argsort(descending=True, stable=True)
    steps = torch.arange(int(lengths.max()))
    is_running = lengths[sequences] > steps[:, None]
    places = offsets[:-1][sequences] + steps[:, None]
    return TimeMajor(places[is_running], sequences, is_running.sum(dim=1))


_FUSED: dict[CellKind, Callable[..., Any]] = {"elman": torch.rnn_tanh, "lstm": torch.lstm, "gru": torch.gru}
_OPTIONS = {"has_biases": True, "num_layers": 1, "dropout": 0.0, "train": False, "bidirectional": False}


def _as_fused(state: State) -> Tensor | list[Tensor]:
    """With an axis for the layers, and in a list only where there are two."""
    vectors = [vector[None] for vector in state]
    return vectors if len(vectors) > 1 else vectors[0]
