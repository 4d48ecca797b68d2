"""Compare models with themselves under `torch.compile`, each as one graph: `compare_compiled.py BACKEND DIRECTORY...`.

Forward and backward, of rows and of packed sequences whose lengths change from call to call.
"""

import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from malmoi.models import load_model
from malmoi.nn.context import Context
from malmoi.nn.stack import Decoder


def outputs(model: Decoder, call: Callable[..., Any], tokens: Tensor, context: Context) -> list[Tensor]:
    """Logits, and the gradient of every parameter."""
    model.zero_grad()
    logits = call(tokens, context).logits
    logits.log_softmax(-1)[..., 0].sum().backward()
    return [logits.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def compare(model: Decoder, compiled: Callable[..., Any]) -> None:
    """Assert that both give the same, for rows and for packed sequences of changing lengths."""
    num_layers = len(model.blocks)
    for lengths in ([7, 1, 12], [3, 3]):
        tokens = torch.randint(model.config.vocab_size, (1, sum(lengths)))
        rows = tokens.view(2, -1)
        for batch, context in (
            (tokens, Context.packed(lengths, num_layers=num_layers)),
            (rows, Context.dense(rows, num_layers=num_layers)),
        ):
            wanted = outputs(model, model, batch, context)
            for ours, theirs in zip(outputs(model, compiled, batch, context), wanted, strict=True):
                assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max().clamp(min=1e-3)


if __name__ == "__main__":
    # PyTorch's own compiler imports what PyTorch deprecates.
    warnings.filterwarnings("ignore", message=".*torch.jit.script_method.* is deprecated")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    for directory in sys.argv[2:]:
        torch.compiler.reset()
        model = load_model(directory)
        compare(model, torch.compile(model, fullgraph=True, backend=sys.argv[1]))
