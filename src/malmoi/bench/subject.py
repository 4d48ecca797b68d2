"""A model to measure that need not exist: the shape of a published one, with weights made on the spot.

How fast a dense model is does not depend on what it has learned.
"""

from typing import Any

import torch
from torch import nn

from malmoi.budget import on_paper
from malmoi.models import initialise
from malmoi.nn.stack import Model


def random_model(config: Any, dtype: torch.dtype, *, seed: int = 0) -> Model:
    """The model of a configuration with random weights, of which never more than one precision is in memory.

    >>> from malmoi.models import llama
    >>> config = llama.sized(2, vocab_size=256, max_positions=64)
    >>> random_model(config, torch.bfloat16).head.weight.dtype
    torch.bfloat16
    """
    model = on_paper(config, dtype)
    made: dict[nn.Parameter, nn.Parameter] = {}  # a tied matrix is made once
    for module in model.modules():
        for name, empty in list(module.named_parameters(recurse=False)):
            if empty not in made:
                made[empty] = nn.Parameter(torch.empty_like(empty, device="cpu"), empty.requires_grad)
            setattr(module, name, made[empty])
    return initialise(model, seed=seed)
