"""What a recurrent layer keeps: one state a sequence, however long the sequence is.

Where attention extends a cache by its tokens, a recurrent layer reads a state, runs over its tokens and writes the
state back. `offsets` say where each sequence of a packed row begins; None stands for rows, one sequence each.

    RowStates      of rows, kept from step to step: for loops over `model(tokens)`
    PackedStates   of packed sequences that are complete in this step: nothing is kept
    StatePool      of many sequences, a slot each: for the engine

Read next: `recurrent`, who reads and writes them; `cache`, the same for attention.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

State = tuple[Float[Tensor, "sequences D"], ...]


@runtime_checkable  # the test runner checks annotations
class LayerStates(Protocol):
    """One layer's states of the sequences of one step."""

    @property
    def offsets(self) -> Int[Tensor, " offsets"] | None:
        """Where each sequence of a packed row begins, and where the last ends; None: rows."""
        ...

    def read(self) -> State | None:
        """The states before this step's tokens, in the order of the sequences; None: all begin."""
        ...

    def write(self, state: State) -> None:
        """Keep the states after this step's tokens (mutates the cache)."""
        ...


class RowStates:
    """`LayerStates` of rows, one sequence each, that go on from step to step."""

    offsets = None

    def __init__(self) -> None:
        self.stored: State | None = None

    def read(self) -> State | None:
        return self.stored

    def write(self, state: State) -> None:
        self.stored = state


class PackedStates:
    """`LayerStates` of packed sequences that are complete in this step: nothing is kept."""

    def __init__(self, offsets: Int[Tensor, " offsets"]) -> None:
        self.offsets: Tensor | None = offsets

    def read(self) -> None:
        return None

    def write(self, state: State) -> None:
        pass


@dataclass(frozen=True)
class StateStep:
    """Whose states one step reads and writes: a slot of the pool a sequence, in the order of the packed row.

    `is_new` marks those that begin in this step: their state is zero, whatever the slot held before. Sequence a
    decodes in slot 4 beside b, which prefills 3 tokens in slot 0: `slots = [4, 0]`, `is_new = [False, True]`,
    `offsets = [0, 1, 4]`.
    """

    slots: Int[Tensor, " sequences"]
    is_new: Bool[Tensor, " sequences"]
    offsets: Int[Tensor, " offsets"]


class StatePool:
    """One layer's states of many sequences; who owns which slot is decided outside."""

    def __init__(
        self, num_slots: int, spec: "StateSpec", *, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        self.states = [torch.zeros(num_slots, size, dtype=dtype, device=device) for size in spec.sizes]

    @property
    def num_bytes(self) -> int:
        """What the pool takes, used or not."""
        return sum(state.nbytes for state in self.states)

    def at(self, step: StateStep) -> "PooledStates":
        """This pool as one step sees it: the `LayerStates` to put into the step's `Context`."""
        return PooledStates(self, step)

    def copy(self, to: Int[Tensor, " slots"], source: Int[Tensor, " slots"]) -> None:
        """Let the slots `to` hold what those of `source` hold (mutates the pool)."""
        for state in self.states:
            state.index_copy_(0, to, state.index_select(0, source))


class PooledStates:
    """`LayerStates`: the pool under one step's slots. `write` writes into the pool."""

    def __init__(self, pool: StatePool, step: StateStep) -> None:
        self.pool, self.step = pool, step
        self.offsets: Tensor | None = step.offsets

    def read(self) -> State:
        is_new = self.step.is_new[:, None]
        return tuple(state[self.step.slots].masked_fill(is_new, 0.0) for state in self.pool.states)

    def write(self, state: State) -> None:
        for kept, new in zip(self.pool.states, state, strict=True):
            kept.index_copy_(0, self.step.slots, new.to(kept.dtype))


@dataclass(frozen=True, kw_only=True)
class StateSpec:
    """What a recurrent layer keeps of a sequence: vectors of these `sizes`, two for an LSTM.

    >>> StateSpec(sizes=(512, 512)).bytes_per_sequence(4)
    4096
    """

    sizes: tuple[int, ...]

    is_shareable = False  # the state after 5 tokens is not a part of the state after 8
    is_truncatable = False
    is_of_source = False

    def bytes_per_token(self, element_size: int) -> int:
        """Nothing grows with the tokens."""
        return 0

    def bytes_per_sequence(self, element_size: int) -> int:
        """Bytes of one layer's state, at `element_size` bytes a number."""
        return sum(self.sizes) * element_size

    def layout(self) -> RowStates:
        """For rows that are complete in one step."""
        return RowStates()

    def packed_layout(
        self, offsets: Int[Tensor, " offsets"], source_offsets: Int[Tensor, " offsets"] | None
    ) -> PackedStates:
        """For packed sequences that are complete in one step."""
        return PackedStates(offsets)

    def new_cache(self) -> RowStates:
        """For rows that go on from step to step."""
        return RowStates()
