"""What a model costs before it exists: parameters, memory and floating-point operations, of any family and size.

    cost        the numbers, of a model without its memory (`on_paper`)
    rehearsal   a computation on the meta device, watched operator by operator
    repeats     the same for a model of many equal parts, of which one runs
    example     what a model of any kind can be called with

An instrument, not a part of any model. `malmoi inspect` shows its numbers, `train/plan.py` adds gradients and moments.
"""

from malmoi.budget.cost import (
    ParameterCount,
    cache_bytes,
    decode_flops,
    forward_bytes,
    forward_flops,
    generation_bytes,
    on_paper,
    parameter_count,
    weight_bytes,
)
from malmoi.budget.example import example_inputs
from malmoi.budget.rehearsal import Rehearsal

__all__ = [
    "ParameterCount",
    "Rehearsal",
    "cache_bytes",
    "decode_flops",
    "example_inputs",
    "forward_bytes",
    "forward_flops",
    "generation_bytes",
    "on_paper",
    "parameter_count",
    "weight_bytes",
]
