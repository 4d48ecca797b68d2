"""Compare models with themselves under `torch.compile`: `compare_compiled.py BACKEND (DIRECTORY whole|parts)...`.

Forward and backward; decoders also over packed sequences whose lengths change from call to call. `whole` is one
graph without a break.
"""

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from malmoi.models import load_model
from malmoi.nn.context import Context
from malmoi.nn.stack import Decoder, Model


def batches(model: Model, inputs: dict[str, Tensor]) -> Iterator[dict[str, Any]]:
    """What the model is called with, one after the other."""
    yield inputs
    if isinstance(model, Decoder):
        for lengths in ([7, 1, 12], [3, 3]):
            tokens = torch.randint(model.vocab_size, (1, sum(lengths)))
            yield {"tokens": tokens, "context": Context.packed(lengths, specs=model.cache_specs())}


def outputs(model: Model, call: Callable[..., Any], batch: dict[str, Any]) -> list[Tensor]:
    """What the head makes, or states, and the gradient of every parameter."""
    model.zero_grad()
    out = call(**batch)
    made = [getattr(out, name, None) for name in ("logits", "pooled", "hidden")]
    values = next(tensor for tensor in made if tensor is not None)
    values.log_softmax(-1)[..., 0].sum().backward()
    # Compiled, an expert that nobody chose has a gradient, of zeros.
    grads = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.parameters()]
    return [values.detach(), *grads]


def compare(model: Model, compiled: Callable[..., Any], inputs: dict[str, Tensor]) -> None:
    """Assert that both give the same."""
    for batch in batches(model, inputs):
        wanted = outputs(model, model, batch)
        for ours, theirs in zip(outputs(model, compiled, batch), wanted, strict=True):
            # The floor is for gradients that are zero but for rounding.
            assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max().clamp(min=1e-2)


if __name__ == "__main__":
    # PyTorch's own compiler imports what PyTorch deprecates.
    warnings.filterwarnings("ignore", message=".*torch.jit.script_method.* is deprecated")
    # Where a graph breaks, it asks every tensor for a gradient.
    warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    backend, *jobs = sys.argv[1:]
    for directory, mode in zip(jobs[::2], jobs[1::2], strict=True):
        print(directory, file=sys.stderr)
        torch.compiler.reset()
        model = load_model(directory)
        compiled = torch.compile(model, fullgraph=mode == "whole", backend=backend)
        compare(model, compiled, torch.load(Path(directory) / "inputs.pt"))
