"""What `malmoi inspect` knows of a model: every number of the page, computed once, for all the ways to show it.

Place in the flow: `inspect.py` asks for one, `inspection_text.py` and `inspection_page.py` draw it.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from malmoi.budget import (
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
from malmoi.budget.example import source_length
from malmoi.models.diagram import Column, diagram
from malmoi.models.registry import family_of
from malmoi.nn.cache import PagedCache
from malmoi.nn.int8_cache import Int8PagedCache
from malmoi.nn.quantized import PRECISIONS, Quantization
from malmoi.nn.stack import Decoder, EncoderDecoder, Model
from malmoi.train.optim import OptimConfig
from malmoi.train.plan import example_loss, training_bytes

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CACHES = {"fp32": (4, PagedCache), "bf16": (2, PagedCache), "int8": (2, Int8PagedCache)}
"""Bytes a number that is not rounded, and what keeps keys and values."""
CONTEXTS = tuple(2**power for power in (9, 11, 13, 15, 17))


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """One model, `context` tokens long, `batch` sequences at once, with weights in `dtype`.

    Bytes, and floating-point operations a token. `decode_flops` and `cache` are by context, `cache` and `weights` by
    precision; `decode_flops` and `cache` are empty where a model does not write. Of int8 and int4 weights, what is not
    rounded is as it is in the model. `peak` is that of generating, or of a forward;
    `training_peak` None where it was not asked for.
    """

    name: str
    model_type: str
    grew_from: str | None
    ideas: tuple[str, ...]
    context: int
    batch: int
    dtype: str
    parameters: ParameterCount
    weights: dict[str, int]
    cache: dict[str, dict[int, int]]
    decode_flops: dict[int, int]
    forward_flops: int
    peak: int
    training_state: int
    training_peak: int | None
    columns: tuple[Column, ...]


@contextmanager
def collecting_no_garbage() -> Iterator[None]:
    """A tree of 45,000 modules has none, and looking for some again and again takes a quarter of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@collecting_no_garbage()
def inspect_model(
    name: str,
    config: Any,
    *,
    context: int | None,
    batch: int,
    dtype: torch.dtype,
    quantization: Quantization | None,
    with_training: bool,
) -> Inspection:
    """Build the model of `config` without memory, and count; `dtype` is that of what is not rounded."""
    family = family_of(config)
    model = on_paper(config, dtype)
    context = min(context or 4096, model.max_positions)
    contexts = sorted({context, model.max_positions} | {n for n in CONTEXTS if n < model.max_positions})
    parameters = parameter_count(model)
    writes = isinstance(model, Decoder | EncoderDecoder)
    quantizations = {precision: Quantization(precision=precision) for precision in PRECISIONS}
    if quantization is not None:
        quantizations[quantization.precision] = quantization
    plain = next(short for short, known in DTYPES.items() if known is dtype)
    peak = generation_bytes if writes else forward_bytes
    return Inspection(
        name=name,
        model_type=family.model_type,
        grew_from=family.grew_from,
        ideas=family.ideas,
        context=context,
        batch=batch,
        dtype=plain if quantization is None else quantization.precision,
        parameters=parameters,
        weights={
            "fp32": 4 * parameters.total,
            "bf16": 2 * parameters.total,
            **{name: weight_bytes(model, rounding) for name, rounding in quantizations.items()},
        },
        cache=_cache(model, contexts) if writes else {},
        decode_flops={length: decode_flops(model, length) for length in sorted({1, context})}
        if writes
        else {},
        forward_flops=forward_flops(model, min(context, 2048)),
        # What is alive beside the weights is the same however they lie.
        peak=peak(model, context, batch=batch) + weight_bytes(model, quantization) - weight_bytes(model),
        training_state=16 * parameters.total,
        training_peak=_training_peak(config, context, batch) if with_training else None,
        columns=diagram(model),
    )


def _cache(model: Model, contexts: Sequence[int]) -> dict[str, dict[int, int]]:
    """What is kept of one sequence, by precision and length."""
    return {
        name: {
            length: cache_bytes(
                model.cache_specs(),
                length,
                element_size=size,
                source_length=source_length(model, length),
                paged_cache=kind,
            )
            for length in contexts
        }
        for name, (size, kind) in CACHES.items()
    }


def _training_peak(config: Any, context: int, batch: int) -> int:
    """Mixed precision as `malmoi train` has it: weights, gradients and AdamW's moments in fp32, activations in bf16."""
    model = on_paper(config)
    model.compute_dtype = torch.bfloat16
    return training_bytes(
        model, OptimConfig(kind="adamw"), lambda twin: example_loss(twin, context, batch=batch)
    )


def count(number: float) -> str:
    """A large number as a person would say it.

    >>> count(8_030_261_248), count(124_439_808), count(768)
    ('8.03 B', '124 M', '768')
    """
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "K")):
        if number >= size:
            scaled = number / (1e3 if unit == "K" else size)
            return f"{scaled:.3g} {unit}" if scaled < 1000 else f"{scaled:,.0f} {unit}"
    return f"{number:,.0f}"


def operations(flops: float) -> str:
    """Floating-point operations.

    >>> operations(15_009_316_864)
    '15.0 GFLOPs'
    """
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if flops >= size:
            return f"{flops / size:.1f} {unit}FLOPs"
    return f"{flops:,.0f} FLOPs"
