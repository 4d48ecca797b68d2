"""Laws of train/checkpoint.py: what has its name is complete, whatever happened while it was written."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from malmoi.core.errors import TrainingError
from malmoi.models import build_model, initialise, llama
from malmoi.nn.stack import Decoder
from malmoi.testing.crash import dies_at
from malmoi.testing.full_disk import disk_with_room_for
from malmoi.train.checkpoint import Progress, latest_checkpoint, load_checkpoint, save_checkpoint
from malmoi.train.optim import OptimConfig, Optimizers

State = tuple[Decoder, Optimizers]


def new_state(*, seed: int = 0, kind: str = "muon", vocab_size: int = 16) -> State:
    model = initialise(build_model(llama.sized(1, vocab_size=vocab_size, max_positions=8)), seed=seed)
    return model, Optimizers(model, OptimConfig(kind=kind))


def step(state: State) -> None:
    model, optimizers = state
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizers.step()


def numbers(state: State) -> list[Tensor]:
    """Every weight and moment."""
    model, optimizers = state
    moments = [
        values[key].clone()
        for optimizer in optimizers.all.values()
        for _, values in sorted(optimizer.state_dict()["state"].items())
        for key in sorted(values)
    ]
    return [*(p.detach().clone() for p in model.parameters()), *moments]


def are_equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def save(folder: Path, state: State, at: int, **data: Any) -> Path:
    return save_checkpoint(folder, Progress(step=at, num_tokens=8 * at), *state, data, keep=2)


def load(checkpoint: Path, **kind: Any) -> tuple[list[Tensor], Progress, dict[str, Any]]:
    """What a new process finds."""
    state = new_state(seed=99, **kind)
    progress, data = load_checkpoint(checkpoint, *state)
    return numbers(state), progress, data


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_what_is_loaded_is_what_was_saved_to_the_bit(tmp_path: Path, kind: str) -> None:
    state = new_state(kind=kind)
    step(state)
    saved = save(tmp_path, state, 1, stream=[3, 4])
    found, progress, data = load(saved, kind=kind)
    assert are_equal(found, numbers(state))
    assert progress == Progress(step=1, num_tokens=8)
    assert data == {"stream": [3, 4]}


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_step_after_loading_is_the_step_that_would_have_come(tmp_path: Path, kind: str) -> None:
    state, twin = new_state(kind=kind), new_state(seed=99, kind=kind)
    step(state)
    load_checkpoint(save(tmp_path, state, 1), *twin)
    for one in (state, twin):
        torch.manual_seed(7)
        step(one)
    assert are_equal(numbers(state), numbers(twin))


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    state = new_state()
    for at in range(1, 5):
        save(tmp_path, state, at)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]
    assert latest_checkpoint(tmp_path) == tmp_path / "step-00000004"


def test_killed_between_any_two_operations_the_newest_named_checkpoint_is_whole(tmp_path: Path) -> None:
    wanted: dict[int, list[Tensor]] = {}
    operation, died, survivors = 0, [True], set()
    while died:
        folder, state = tmp_path / str(operation), new_state()
        torch.manual_seed(0)
        for at in (1, 2, 3):
            step(state)
            wanted[at] = numbers(state)
            with dies_at(operation if at == 3 else 10**6) as died:
                save(folder, state, at)
        for checkpoint in folder.glob("step-*"):
            found, progress, _ = load(checkpoint)
            assert are_equal(found, wanted[progress.step])
        survivors.add(load(latest_checkpoint(folder))[1].step)
        save(folder, state, 4)
        assert len(list(folder.iterdir())) == 2, "what the dead process left is cleared away"
        operation += 1
    assert operation > 10
    assert survivors == {2, 3}


@pytest.mark.parametrize("room", [0, 100, 1000, 100_000])
def test_on_a_full_disk_the_newest_complete_checkpoint_stays_and_is_named(tmp_path: Path, room: int) -> None:
    state = new_state()
    step(state)
    save(tmp_path, state, 1)
    before = numbers(state)
    step(state)
    message = r"step 2 could not be written.*newest complete one is step-00000001.*Free some space"
    with disk_with_room_for(room), pytest.raises(TrainingError, match=message):
        save(tmp_path, state, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert are_equal(load(tmp_path / "step-00000001")[0], before)


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_checkpoint_is_refused_with_the_way_out(tmp_path: Path, file: str, damage: str) -> None:
    state = new_state()
    step(state)
    saved = save(tmp_path, state, 1)
    content = (saved / file).read_bytes()
    (saved / file).unlink()
    if damage == "truncated":
        (saved / file).write_bytes(content[:-10])
    with pytest.raises(TrainingError, match=r"step-00000001 cannot be read.*Remove that directory"):
        load(saved)


def test_a_checkpoint_without_its_state_is_refused(tmp_path: Path) -> None:
    saved = save(tmp_path, new_state(), 1)
    (saved / "state.json").write_text(json.dumps({"progress": {"step": 1}}))
    with pytest.raises(TrainingError, match=r"cannot be read: .data.\. Remove that directory"):
        load(saved)


def test_a_checkpoint_of_another_model_is_refused_by_the_tensor_that_does_not_fit(tmp_path: Path) -> None:
    saved = save(tmp_path, new_state(), 1)
    with pytest.raises(TrainingError, match=r"of another model: 'embedding.tokens.weight'.*new `out`"):
        load(saved, vocab_size=17)
