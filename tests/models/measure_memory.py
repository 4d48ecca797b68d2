"""Measure what models take: `measure_memory.py DIRECTORY...` prints a line `DIRECTORY running training` for each.

A model generates `LENGTH` tokens (what does not write runs forward once), then trains for two steps. Measured is the
kernel's record of the most memory that the process had, above what it had before the model was there: weights are
copied from their file, and what reading the file took is forgotten. Start it with `MALLOC_MMAP_THRESHOLD_` and
`MALLOC_ARENA_MAX`, so that the allocator gives back what is freed.
"""

import ctypes
import gc
import re
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from malmoi.engine import Engine, SamplingParams
from malmoi.models import load_model
from malmoi.models.example import example_inputs
from malmoi.nn.stack import Decoder, Model
from malmoi.train.optim import OptimConfig, Optimizers
from malmoi.train.plan import example_loss

LENGTH = 640  # more than the engine shows to a model at once


def status(key: str) -> int:
    return 1024 * int(re.search(key + r":\s+(\d+) kB", Path("/proc/self/status").read_text())[1])


def measured(run: Callable[[Model], object], directory: str) -> int:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = status("VmRSS")
    run(load(directory))
    return status("VmHWM") - before


@torch.inference_mode()
def generate(model: Model) -> None:
    """By the engine; what it does not take runs forward once."""
    if type(model) is Decoder:
        Engine(model, max_requests=1).generate(
            [[1] * (LENGTH - 4)], SamplingParams(max_tokens=4, temperature=0)
        )
    else:
        model(**example_inputs(model, LENGTH))


def train(model: Model) -> None:
    optimizers = Optimizers(model, OptimConfig(kind="adamw"))
    for _ in range(2):
        example_loss(model, 256, batch=2).backward()
        optimizers.clip()
        optimizers.step()


def load(directory: str) -> Model:
    model = load_model(directory)
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()  # no longer pages of the file
    Path("/proc/self/clear_refs").write_text("5")
    return model


if __name__ == "__main__":
    torch.set_num_threads(1)
    for directory in [sys.argv[1], *sys.argv[1:]]:  # the first twice: then all code has been loaded
        print(directory, measured(generate, directory), measured(train, directory), flush=True)
