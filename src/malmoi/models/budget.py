"""What a model costs before it exists: parameters, memory and floating-point operations, of any family and size.

Sums over the modules and the cache specs of a model on the meta device, and, for what depends on the order of things,
a rehearsal (`nn/rehearsal.py`). Everybody who needs a number asks here: `malmoi inspect`, and `train/plan.py`, which
adds gradients and moments. Read next: `cli/inspect.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from malmoi.models.base import count_parameters
from malmoi.models.checkpoint import build_model
from malmoi.models.example import example_inputs, of_medium
from malmoi.nn.cache import CacheSpec, KeyValueSpec, LayerCache, PagedCache, PagedStep
from malmoi.nn.context import Context
from malmoi.nn.moe import MoE
from malmoi.nn.multimodal import Multimodal
from malmoi.nn.rehearsal import Rehearsal
from malmoi.nn.stack import Decoder, EncoderDecoder, Model
from malmoi.nn.state import LayerStates, StatePool, StateStep

M = TypeVar("M", bound=nn.Module)

TOKENS_PER_STEP = 512
"""What an engine shows to a model at once if it is not told otherwise."""


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
    tables = _modules(model, nn.Embedding)
    heads = [decoder.head for decoder in _modules(model, Decoder)]
    return ParameterCount(
        total=total, active=total - idle, tables=count_parameters(nn.ModuleList([*tables, *heads]))
    )


def weight_bytes(model: nn.Module) -> int:
    """Memory of the weights in their own precision, a tied matrix once."""
    return sum(parameter.nbytes for parameter in model.parameters())


def cache_bytes(
    specs: Sequence[CacheSpec], length: int, *, element_size: int, source_length: int | None = None
) -> int:
    """What the layers keep of one sequence of `length` tokens, and of a source, which is as long if nothing is said.

    A layer with a window keeps no more than that, as `nn.cache.RollingCache` does; a state is of one size.

    >>> cache_bytes([KeyValueSpec(num_kv_heads=8, head_dim=128)] * 32, 8192, element_size=2) / 2**30   # Llama 3 8B
    1.0
    """
    total = 0
    for spec in specs:
        if not isinstance(spec, KeyValueSpec):
            total += spec.bytes_per_sequence(element_size)
            continue
        kept = length if source_length is None or not spec.is_of_source else source_length
        total += spec.bytes_per_token(element_size) * min(kept, spec.window or kept)
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
    return rehearse_step(model, [length], [1]).flops


def generation_bytes(model: Model, length: int, *, batch: int = 1) -> int:
    """The peak of generating `batch` sequences up to `length` tokens, in the precision of `model`.

    Weights, the cache, and whatever is alive in the largest of the engine's steps: a piece of one prompt beside the
    other sequences, which decode; or, if that is more, in the encoders of a prompt's image or sound. An
    encoder-decoder reads a sound as long as it hears, or `length` tokens, and writes one token at a time.
    """
    others = [length] * (batch - 1)
    piece = 1 if isinstance(model, EncoderDecoder) else TOKENS_PER_STEP - len(others)
    whole = length // piece * piece  # where the last full piece of the prompt ends
    steps = [(end, new) for end, new in ((whole, piece), (length, length - whole)) if new and end]
    peaks = [rehearse_step(model, [end, *others], [new, *[1] * len(others)]).peak_bytes for end, new in steps]
    if isinstance(model, Multimodal):
        with torch.no_grad(), Rehearsal() as rehearsal:
            model.encode(**{name: of_medium(encoder, 1) for name, encoder in model.encoders.items()})
        peaks.append(rehearsal.peak_bytes)
    return weight_bytes(model) + max(peaks)


def forward_bytes(model: Model, length: int, *, batch: int = 1) -> int:
    """The peak of a forward over whole rows, without gradients: what an encoder or a tower needs."""
    return weight_bytes(model) + rehearse_forward(model, length, batch=batch).peak_bytes


@torch.no_grad()
def rehearse_forward(model: Model, length: int, *, batch: int = 1) -> Rehearsal:
    """A forward over whole rows, counted; nothing is cached."""
    inputs = example_inputs(model, length, batch=batch)
    with Rehearsal() as rehearsal:
        model(**inputs)
    return rehearsal


@torch.no_grad()
def rehearse_step(model: Model, lengths: Sequence[int], num_new: Sequence[int]) -> Rehearsal:
    """A step of the engine, counted: the last `num_new` tokens of sequences of `lengths`, one row of logits for each.

    The caches are allocated within, with room for the sequences and no more. Of an encoder-decoder it is the first
    step of a sequence, after its source was encoded; only the decoder's operations are counted.
    """
    assert isinstance(model, Decoder | EncoderDecoder), f"{type(model).__name__} does not generate"
    specs = model.cache_specs()
    offsets = torch.tensor([0, *accumulate(num_new)])
    starts = [length - new for length, new in zip(lengths, num_new, strict=True)]
    positions = torch.cat([torch.arange(a, b) for a, b in zip(starts, lengths, strict=True)])
    with Rehearsal() as rehearsal:
        source, source_lengths = None, [0] * len(lengths)
        if isinstance(model, EncoderDecoder):
            sources = [model.encode(_example_source(model, length)) for length in lengths]
            source, source_lengths = torch.cat(sources, dim=1), [len(states[0]) for states in sources]
            rehearsal.flops = 0
        context = Context(
            positions=positions[None],
            sequence_lengths=torch.repeat_interleave(torch.tensor(lengths), offsets.diff())[None],
            caches=[_cache(spec, model, lengths, offsets, source_lengths) for spec in specs],
            source=source,
        )
        hidden = model.hidden(torch.zeros(1, len(positions), dtype=torch.long), context)
        model.head(hidden[0, offsets[1:] - 1])
    return rehearsal


def _example_source(model: EncoderDecoder, length: int) -> Tensor:
    inputs = example_inputs(model, length)
    return inputs.get("audio", inputs["tokens"])


def _cache(
    spec: CacheSpec, model: Model, lengths: Sequence[int], offsets: Tensor, source_lengths: Sequence[int]
) -> LayerCache | LayerStates:
    """A pool for one layer with room for these sequences, as this step sees it."""
    num_sequences = len(lengths)
    if not isinstance(spec, KeyValueSpec):
        pool = StatePool(num_sequences, spec, dtype=model.dtype, device="meta")
        is_new = torch.zeros(num_sequences, dtype=torch.bool)
        return pool.at(StateStep(slots=torch.arange(num_sequences), is_new=is_new, offsets=offsets))
    stored = source_lengths if spec.is_of_source else lengths
    ends = [0, *accumulate(stored)]
    new = stored if spec.is_of_source else offsets.diff().tolist()
    step = PagedStep(
        write=torch.cat([torch.arange(end - n, end) for end, n in zip(ends[1:], new, strict=True)]),
        read=torch.arange(ends[-1]),
        query_offsets=offsets,
        key_offsets=torch.tensor(ends),
    )
    return PagedCache(ends[-1], spec, dtype=model.dtype, device="meta").at(step)


def _modules(model: nn.Module, kind: type[M]) -> list[M]:
    return [module for module in model.modules() if isinstance(module, kind)]
