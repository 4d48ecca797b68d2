"""The numbers: parameters, memory and operations of a model that has no memory itself.

Sums over the modules and the cache specs of a model on the meta device, and, for what depends on the order of things,
rehearsals. Everybody who needs a number asks here: `malmoi inspect`, and `train/plan.py`, which adds gradients and
moments. Read next: `forwards.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from malmoi.budget.example import source_length
from malmoi.budget.forwards import rehearse_encoders, rehearse_forward, rehearse_step
from malmoi.models.base import count_parameters
from malmoi.models.checkpoint import build_model
from malmoi.nn.cache import CacheSpec, KeyValueSpec, PagedCache
from malmoi.nn.moe import MoE
from malmoi.nn.packed import PackedEmbedding, PackedWeight
from malmoi.nn.quantized import Quantization
from malmoi.nn.stack import Decoder, Model

M = TypeVar("M", bound=nn.Module)

TOKENS_PER_STEP = 512
"""What an engine shows to a model at once if it is not told otherwise, and does not decode more sequences."""


def on_paper(config: Any, dtype: torch.dtype = torch.float32) -> Model:
    """The model of a configuration without its memory.

    >>> from malmoi.models import llama
    >>> on_paper(llama.llama3_8b()).device.type
    'meta'
    """
    with torch.device("meta"):
        return build_model(config).to(dtype).eval()


@dataclass(frozen=True, kw_only=True)
class ParameterCount:
    """`total`, a tied matrix once; `active`, those that one token passes through; `tables`, of embeddings and head.

    As the papers of sparse models count, `active` has the router, the shared experts, `top_k` of the others, and the
    whole embedding, of which a token reads a row: Mixtral's 12.9 of 46.7 billion.
    """

    total: int
    active: int
    tables: int


def parameter_count(model: nn.Module) -> ParameterCount:
    """Count them, by what they are for."""
    total = count_parameters(model)
    idle = 0
    for moe in _modules(model, MoE):
        all_experts = count_parameters(moe.experts)
        idle += all_experts - all_experts // len(moe.experts) * moe.router.top_k
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding | PackedEmbedding)]
    heads = [decoder.head for decoder in _modules(model, Decoder)]
    return ParameterCount(
        total=total, active=total - idle, tables=count_parameters(nn.ModuleList([*tables, *heads]))
    )


def weight_bytes(model: nn.Module, quantization: Quantization | None = None) -> int:
    """Memory of the weights as they lie, packed ones too, a tied matrix once.

    With a `quantization`, of what it would make of a model with plain weights.

    >>> from malmoi.models import llama
    >>> model = on_paper(llama.llama3_8b(), torch.bfloat16)
    >>> int4 = Quantization(precision="int4")
    >>> f"{weight_bytes(model) / 2**30:.1f}, {weight_bytes(model, int4) / 2**30:.1f} GiB"
    '15.0, 4.2 GiB'
    """
    total = sum(weight.nbytes for weight in (*model.parameters(), *model.buffers()))
    if quantization is not None:
        for matrix in quantization.matrices_of(model):
            total += quantization.bytes_of(matrix) - matrix.weight.nbytes
    return total


def cache_bytes(
    specs: Sequence[CacheSpec],
    length: int,
    *,
    element_size: int,
    source_length: int | None = None,
    paged_cache: type[PagedCache] = PagedCache,
) -> int:
    """What the layers keep of one sequence of `length` tokens, and of a source, which is as long if nothing is said.

    A layer with a window keeps no more than that, as `nn.cache.RollingCache` does; a state is of one size. A
    `paged_cache` of 8 bits keeps what it says itself.

    >>> cache_bytes([KeyValueSpec(num_kv_heads=8, head_dim=128)] * 32, 8192, element_size=2) / 2**30   # Llama 3 8B
    1.0
    """
    total = 0
    for spec in specs:
        if not isinstance(spec, KeyValueSpec):
            total += spec.bytes_per_sequence(element_size)
            continue
        kept = length if source_length is None or not spec.is_of_source else source_length
        total += paged_cache.bytes_per_token(spec, element_size) * min(kept, spec.window or kept)
    return total


def forward_flops(model: Model, length: int) -> int:
    """Operations of a forward over `length` tokens at once, with what its kind needs besides, divided by `length`.

    Causal attention counts half of its square, as it is computed; a window, only what lies in it.
    """
    return rehearse_forward(model, length).flops // length


def decode_flops(model: Model, length: int) -> int:
    """Operations of generating one token, the last of `length`: matrices, attention over all before it, the head.

    >>> from malmoi.models import llama
    >>> model = on_paper(llama.llama3_8b())
    >>> f"{decode_flops(model, 1):.3e}, {decode_flops(model, 8192):.3e}"    # 2 x 7.5e9 matrices; + 4 x 8192 x 4096 x 32
    '1.501e+10, 1.930e+10'
    """
    return rehearse_step(model, [length], [1], num_states=source_length(model, length)).flops


def generation_bytes(model: Model, length: int, *, batch: int = 1) -> int:
    """The peak of generating `batch` sequences up to `length` tokens, in the precision of `model`, packed or not.

    Weights, the cache, and whatever is alive in the largest of the engine's steps: a piece of one prompt beside the
    other sequences, which decode; or, if that is more, in the encoders of a prompt's image or sound. An encoder-decoder
    reads a source of `length` tokens whole, or a sound as long as it hears, and then writes one token at a time.
    """
    twin = _with_plain_weights(model)
    others = [length] * (batch - 1)
    num_states = source_length(twin, length)
    if num_states:
        steps = [(1, 1, num_states), (length, 1, 0)]
    else:
        piece = max(TOKENS_PER_STEP, batch) - len(others)
        whole = length // piece * piece  # where the last full piece of the prompt ends
        steps = [(end, new, 0) for end, new in ((whole, piece), (length, length - whole)) if new and end]
    rehearsals = [
        rehearse_step(
            twin,
            [end, *others],
            [new, *[1] * len(others)],
            num_states=num_states,
            num_new_states=num_new_states,
        )
        for end, new, num_new_states in steps
    ]
    rehearsals.append(rehearse_encoders(twin, length, others=others))
    return weight_bytes(model) + max(rehearsal.peak_bytes for rehearsal in rehearsals)


def forward_bytes(model: Model, length: int, *, batch: int = 1) -> int:
    """The peak of a forward over whole rows, without gradients: what an encoder or a tower needs."""
    twin = _with_plain_weights(model)
    return weight_bytes(model) + rehearse_forward(twin, length, batch=batch).peak_bytes


def _with_plain_weights(model: Model) -> Model:
    """What is to be rehearsed: a product with packed weights makes nothing but its result, as one with plain ones."""
    is_packed = any(isinstance(module, PackedWeight) for module in model.modules())
    return on_paper(model.config, model.dtype) if is_packed else model


def _modules(model: nn.Module, kind: type[M]) -> list[M]:
    return [module for module in model.modules() if isinstance(module, kind)]
