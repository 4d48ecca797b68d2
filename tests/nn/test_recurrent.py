"""A cell's equations, PyTorch's fused loop and PyTorch's own modules are one thing, however the tokens are cut."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from malmoi.nn.cells import CELLS, CellKind
from malmoi.nn.context import Context
from malmoi.nn.kernels.recurrence import CellWeights, recurrence, recurrence_reference
from malmoi.nn.recurrent import Recurrent
from malmoi.nn.state import State, StatePool, StateSpec, StateStep

KINDS = get_args(CellKind)
TORCH: dict[str, Any] = {"elman": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
OFFSETS = {"rows": None, "packed": torch.tensor([0, 3, 4, 9, 14]), "decoding": torch.arange(15)}


def layer_and_reference(kind: CellKind) -> tuple[Recurrent, Any]:
    """Ours and torch.nn's, with the same weights."""
    ours, theirs = Recurrent(6, kind=kind), TORCH[kind](6, 6, batch_first=True)
    names = {"weight_ih_l0": ours.input.weight, "weight_hh_l0": ours.state.weight}
    names |= {"bias_ih_l0": ours.input.bias, "bias_hh_l0": ours.state.bias}
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            names[name].copy_(parameter.normal_())
    return ours, theirs


def random_state(kind: CellKind, num_sequences: int) -> State:
    return tuple(torch.randn(num_sequences, 6) for _ in range(CELLS[kind].num_vectors))


def weights_of(kind: CellKind) -> CellWeights:
    num_gates = 6 * CELLS[kind].num_gates
    return CellWeights(
        *(torch.randn(*shape, requires_grad=True) for shape in [(num_gates, 6)] * 2 + [(num_gates,)] * 2)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_that_of_torch_with_the_same_weights(kind: CellKind) -> None:
    ours, theirs = layer_and_reference(kind)
    x = torch.randn(2, 5, 6)
    out = ours(x, Context.rows(2, 5, specs=[ours.cache_spec]))
    torch.testing.assert_close(out, theirs(x)[0])


@pytest.mark.parametrize("layout", OFFSETS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_fused_loop_is_the_equations_and_so_are_its_gradients(kind: CellKind, layout: str) -> None:
    offsets, weights = OFFSETS[layout], weights_of(kind)
    x = torch.randn((1, 14, 6) if offsets is not None else (2, 7, 6), requires_grad=True)
    state = tuple(v.requires_grad_() for v in random_state(kind, 2 if offsets is None else len(offsets) - 1))
    found = []
    for run in (recurrence, recurrence_reference):
        out, after = run(kind, x, weights, state, offsets)
        loss = out.square().sum() + sum((vector**3).sum() for vector in after)
        found.append((out, *after, *torch.autograd.grad(loss, [x, *weights, *state])))
    for fused, wanted in zip(*found, strict=True):
        torch.testing.assert_close(fused, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_is_all_that_a_later_chunk_needs(kind: CellKind) -> None:
    weights, x, state = weights_of(kind), torch.randn(2, 7, 6), random_state(kind, 2)
    whole, last = recurrence_reference(kind, x, weights, state)
    parts = []
    for part in x.split([3, 1, 3], dim=1):
        out, state = recurrence_reference(kind, part, weights, state)
        parts.append(out)
    assert torch.equal(torch.cat(parts, dim=1), whole)
    assert all(torch.equal(a, b) for a, b in zip(state, last, strict=True))


def test_gru_is_the_papers_where_its_reset_gate_is_open() -> None:
    """The paper's reset gate multiplies h before the matrix does; open, that makes no difference."""
    weights, x = weights_of("gru"), torch.randn(1, 1, 6)
    (h,) = random_state("gru", 1)
    with torch.no_grad():
        weights.input_bias[:6] = 100.0
    w_z, w = weights.of_input[6:].chunk(2)
    u_z, u = weights.of_state[6:].chunk(2)
    b_z, b = (weights.input_bias + weights.state_bias)[6:].chunk(2)
    z = torch.sigmoid(x[0] @ w_z.T + h @ u_z.T + b_z)
    paper = z * h + (1 - z) * torch.tanh(x[0] @ w.T + (1.0 * h) @ u.T + b)
    torch.testing.assert_close(recurrence("gru", x, weights, (h,))[0][0], paper)


def pooled(pool: StatePool, slots: list[int], is_new: list[bool]) -> State:
    offsets = torch.arange(len(slots) + 1)
    return pool.at(StateStep(torch.tensor(slots), torch.tensor(is_new), offsets)).read()


def test_a_pool_keeps_each_state_in_its_slot_and_a_new_sequence_sees_none_of_the_last_owner() -> None:
    pool = StatePool(3, StateSpec(sizes=(2,)), dtype=torch.float32, device="cpu")
    step = StateStep(torch.tensor([2, 0]), torch.tensor([True, True]), torch.tensor([0, 1, 2]))
    pool.at(step).write((torch.tensor([[5.0, 5.0], [6.0, 6.0]]),))
    assert pooled(pool, [0, 2], [False, False])[0].tolist() == [[6.0, 6.0], [5.0, 5.0]]
    assert pooled(pool, [0, 2], [True, False])[0].tolist() == [[0.0, 0.0], [5.0, 5.0]]


def test_a_spec_counts_what_a_pool_takes() -> None:
    spec = StateSpec(sizes=(3, 5))
    pool = StatePool(7, spec, dtype=torch.bfloat16, device="cpu")
    assert sum(state.nbytes for state in pool.states) == 7 * spec.bytes_per_sequence(2)


@torch.no_grad()
def test_sequences_of_one_packed_row_do_not_see_each_other() -> None:
    layer = Recurrent(6, kind="gru")
    x: Tensor = torch.randn(1, 9, 6)
    packed = layer(x, Context.packed([4, 5], specs=[layer.cache_spec]))
    alone = layer(x[:, 4:], Context.rows(1, 5, specs=[layer.cache_spec]))
    torch.testing.assert_close(packed[:, 4:], alone)
