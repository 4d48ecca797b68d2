"""Recurrent layers: a state goes through the sequence and says at each token what came before.

The brick names its parts in the order of `forward`: read the sequences' states, run the cell over their tokens, write
the states back. Where attention keeps every token, this keeps `StateSpec.sizes` numbers, however long the sequence.
Read `cells` and `state` first; next: `models/recurrent.py`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from malmoi.nn.cache import CachedLayer
from malmoi.nn.cells import CELLS, CellKind
from malmoi.nn.context import Context
from malmoi.nn.kernels.recurrence import CellWeights, recurrence
from malmoi.nn.linear import Linear
from malmoi.nn.state import LayerStates, StateSpec


class Recurrent(CachedLayer):
    """One layer of an Elman network, an LSTM or a GRU (`cells`): tokens' vectors -> the state at each token.

    The weights are those of `torch.nn.RNN`, `LSTM` and `GRU`, with a bias for the input and one for the state. A
    forward reads the states of its sequences and writes the new ones back (mutates the context's cache).

    >>> layer = Recurrent(8, kind="lstm")
    >>> layer(torch.ones(2, 5, 8), Context.rows(2, 5, specs=[layer.cache_spec])).shape
    torch.Size([2, 5, 8])
    >>> layer.state.weight.shape                          # i f g o, one above the other
    torch.Size([32, 8])
    """

    def __init__(self, hidden_size: int, *, kind: CellKind) -> None:
        super().__init__()
        cell = CELLS[kind]
        self.kind = kind
        self.state_sizes = (hidden_size,) * cell.num_vectors
        self.cache_spec = StateSpec(sizes=self.state_sizes)
        self.input = Linear(hidden_size, cell.num_gates * hidden_size)
        self.state = Linear(hidden_size, cell.num_gates * hidden_size)

    def forward(self, x: Float[Tensor, "B T D"], context: Context) -> Float[Tensor, "B T D"]:
        states = context.caches[self.cache_index]
        assert isinstance(states, LayerStates), "a recurrent layer keeps a state, not keys and values"
        num_sequences = x.shape[0] if states.offsets is None else len(states.offsets) - 1
        before = states.read() or tuple(x.new_zeros(num_sequences, size) for size in self.state_sizes)
        before = tuple(vector.to(x.dtype) for vector in before)
        out, after = recurrence(self.kind, x, self.weights(x.dtype), before, states.offsets)
        states.write(after)
        return out

    @torch.no_grad()
    def open_forget_gates(self) -> None:
        """Let an LSTM begin by remembering: a bias of 1 at its forget gates (mutates it); other cells have none.

        Jozefowicz et al. 2015, An Empirical Exploration of Recurrent Network Architectures. Without it a gradient is
        halved at each step from the start. Of the two biases that are added, it is the input's.
        """
        if self.kind == "lstm" and self.input.bias is not None:
            self.input.bias.chunk(4)[1].fill_(1.0)

    def weights(self, dtype: torch.dtype) -> CellWeights:
        """The parameters in the precision of the activations, as `Linear` casts them."""
        parts = (self.input.weight, self.state.weight, self.input.bias, self.state.bias)
        return CellWeights(*(part.to(dtype) for part in parts if part is not None))
