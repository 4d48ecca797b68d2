"""What a model does when it runs, rehearsed: a forward over whole rows, its encoders, a step of the engine.

A step is as `engine/inputs.py` makes it, so that its peak is what a user's memory sees. Read next: `repeats.py`, by
which equal layers are rehearsed once; `example.py`, what it is called with.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from malmoi.budget.example import example_inputs, of_medium, source_length
from malmoi.budget.rehearsal import Rehearsal
from malmoi.budget.repeats import rehearsal_of
from malmoi.nn.audio import AudioToText
from malmoi.nn.cache import KeyValueSpec, PagedCache, PagedStep
from malmoi.nn.context import Context, offsets_of
from malmoi.nn.multimodal import Multimodal
from malmoi.nn.stack import Decoder, EncoderDecoder, Model
from malmoi.nn.state import StatePool, StateStep


def rehearse_forward(model: Model, length: int, *, batch: int = 1) -> Rehearsal:
    """A forward over whole rows, counted; nothing is cached."""
    inputs = example_inputs(model, length, batch=batch)
    with rehearsal_of(model) as rehearsal:
        model(**inputs)
    return rehearsal


def rehearse_encoders(model: Model, length: int, *, others: Sequence[int]) -> Rehearsal:
    """What is done once a prompt, counted: its image or sound is encoded, or its source, `length` tokens or a sound.

    Beside it lies what is cached of `others`, sequences of these lengths. Of a model of text alone that is all.
    """
    with rehearsal_of(model) as rehearsal:
        stored = _pools(model, others, source_length(model, length))
        if isinstance(model, AudioToText):
            model.encode(example_inputs(model, length)["audio"])
        elif isinstance(model, EncoderDecoder):
            places = Context.packed([length], specs=model.encoder.cache_specs())
            model.encode(example_inputs(model, length)["tokens"], places)
        elif isinstance(model, Multimodal):
            model.encode(**{name: of_medium(encoder, 1) for name, encoder in model.encoders.items()})
        del stored
    return rehearsal


def rehearse_step(
    model: Model,
    lengths: Sequence[int],
    num_new: Sequence[int],
    *,
    num_states: int = 0,
    num_new_states: int = 0,
) -> Rehearsal:
    """A step of the engine, counted: the last `num_new` tokens of sequences of `lengths`, one row of logits for each.

    Each sequence has a source of `num_states`; of the first one `num_new_states` are new, all others are stored. The
    caches are allocated within, with room for the sequences and no more.
    """
    assert isinstance(model, Decoder | EncoderDecoder), f"{type(model).__name__} does not generate"
    with rehearsal_of(model) as rehearsal:
        sizes, offsets = torch.tensor(num_new), offsets_of(num_new)
        positions = [torch.arange(length - new, length) for length, new in zip(lengths, num_new, strict=True)]
        paged = _paged_step(lengths, num_new, offsets)
        of_source = _paged_step(
            [num_states] * len(lengths), [num_new_states, *[0] * (len(lengths) - 1)], offsets
        )
        is_new = torch.zeros(len(lengths), dtype=torch.bool)
        states = StateStep(slots=torch.arange(len(lengths)), is_new=is_new, offsets=offsets)
        pools = _pools(model, lengths, num_states)
        context = Context(
            positions=torch.cat(positions)[None],
            sequence_lengths=torch.repeat_interleave(torch.tensor(lengths), sizes)[None],
            caches=[
                pool.at(states)
                if isinstance(pool, StatePool)
                else pool.at(of_source if spec.is_of_source else paged)
                for spec, pool in zip(model.cache_specs(), pools, strict=True)
            ],
            source=_states(model, num_new_states) if isinstance(model, EncoderDecoder) else None,
        )
        hidden = model.hidden(torch.zeros(1, int(offsets[-1]), dtype=torch.long), context)
        model.head(hidden[0, offsets[1:] - 1])
    return rehearsal


def _pools(model: Model, lengths: Sequence[int], num_states: int) -> list[PagedCache | StatePool]:
    """A pool a layer, with room for sequences of `lengths`, each with a source of `num_states`."""
    num_slots, num_source_slots = sum(lengths), num_states * len(lengths)
    return [
        PagedCache(
            num_source_slots if spec.is_of_source else num_slots, spec, dtype=model.dtype, device="meta"
        )
        if isinstance(spec, KeyValueSpec)
        else StatePool(len(lengths), spec, dtype=model.dtype, device="meta")
        for spec in model.cache_specs()
    ]


def _paged_step(lengths: Sequence[int], num_new: Sequence[int], offsets: Tensor) -> PagedStep:
    """Sequences of `lengths` end to end in a pool, the last ones of each new."""
    ends = list(accumulate(lengths))
    return PagedStep(
        write=torch.cat([torch.arange(end - new, end) for end, new in zip(ends, num_new, strict=True)]),
        read=torch.arange(ends[-1]),
        query_offsets=offsets,
        key_offsets=offsets_of(lengths),
    )


def _states(model: EncoderDecoder, number: int) -> Tensor:
    """What an encoder hands to its decoder."""
    width = next(model.encoder.embedding.parameters()).shape[-1]
    return torch.empty(1, number, width, dtype=model.dtype, device="meta")
