"""A run that can be killed at any moment: its whole state in one directory that appears at once.

    OUT/checkpoints/step-00000200/
        weights.safetensors     parameters in full precision
        optimizer.safetensors   moments and momenta, named optimiser/index/key
        state.json              step, counters, where each source stands

A directory is written under a hidden name, flushed and renamed, and loses its name before it is removed: one that
has its name is complete. There is no other state: nothing in training draws random numbers.
Read next: `resume.py`, which decides whether a checkpoint is this run's.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from malmoi.core.errors import TrainingError
from malmoi.core.files import flush, read_json
from malmoi.train.optim import Optimizers


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is: finished steps, and the tokens and targets that they saw."""

    step: int = 0
    num_tokens: int = 0
    num_targets: int = 0


def save_checkpoint(
    folder: Path,
    progress: Progress,
    model: nn.Module,
    optimizers: Optimizers,
    data: Mapping[str, Any],
    *,
    keep: int,
) -> Path:
    """Write the checkpoint of a step into `folder`, then remove all but the newest `keep`; returns its directory.

    Raises TrainingError if it cannot be written (a full disk); earlier checkpoints are untouched by that.
    """
    final = folder / f"step-{progress.step:08d}"
    partial = folder / f".{final.name}.partial"
    try:
        for litter in folder.glob(".step-*"):  # of a process that was killed here
            shutil.rmtree(litter)
        partial.mkdir(parents=True)
        save_file(_parameters(model), partial / "weights.safetensors")
        save_file(_optimizer_tensors(optimizers), partial / "optimizer.safetensors")
        state = {"progress": asdict(progress), "data": dict(data)}
        (partial / "state.json").write_text(json.dumps(state), encoding="utf-8")
        for file in [*partial.iterdir(), partial]:
            flush(file)
        partial.rename(final)
        flush(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        newest = latest_checkpoint(folder)
        raise TrainingError(
            f"the checkpoint of step {progress.step} could not be written to {folder}: {error}. "
            f"{'The newest complete one is ' + newest.name if newest else 'There is no earlier one'}. "
            "Free some space and run the same command again; it resumes from there."
        ) from error
    for old in _complete(folder)[:-keep]:
        shutil.rmtree(old.rename(folder / f".{old.name}.removed"))
    return final


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint of a run, if it has one."""
    found = _complete(folder)
    return found[-1] if found else None


def load_checkpoint(
    checkpoint: Path, model: nn.Module, optimizers: Optimizers
) -> tuple[Progress, dict[str, Any]]:
    """Restore parameters and moments (mutates model and optimisers); returns the progress and the data's state.

    Raises TrainingError if a file cannot be read, or belongs to another model.
    """
    try:
        weights = load_file(checkpoint / "weights.safetensors")
        moments = load_file(checkpoint / "optimizer.safetensors")
        state = read_json(checkpoint / "state.json", error=TrainingError)
        progress, data = Progress(**state["progress"]), state["data"]
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise TrainingError(
            f"the checkpoint {checkpoint} cannot be read: {error}. Remove that directory to resume from the one before."
        ) from error
    parameters = _parameters(model)
    if _shapes(weights) != _shapes(parameters):
        name = min(dict(_shapes(weights).items() ^ _shapes(parameters).items()))
        raise TrainingError(
            f"the checkpoint {checkpoint} is of another model: {name!r} does not fit. Give the run a new `out`."
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    for kind, optimizer in optimizers.all.items():
        restored: dict[int, dict[str, Tensor]] = {}
        for name, tensor in moments.items():
            owner, index, key = name.split("/")
            if owner == kind:
                restored.setdefault(int(index), {})[key] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": restored})
    return progress, data


def _complete(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    """By name, a tied one once."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _optimizer_tensors(optimizers: Optimizers) -> dict[str, Tensor]:
    return {
        f"{kind}/{index}/{key}": value.contiguous()
        for kind, optimizer in optimizers.all.items()
        for index, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }
