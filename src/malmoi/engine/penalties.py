"""What a request has against certain tokens: penalties, biases and rules, on a step's logits at once.

    model.head -> logits -> PENALTIES -> temperature, filters, draw

Steps 1 to 4 of `sampling.py`, which says their order. All rows that ask for a step take it together: the ids of all
of them are one list of places in the (B, V) logits. Read next: `sampling.py`; `rules.py`.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from malmoi.core.errors import RequestError
from malmoi.engine.request import Failure, Generation


def reshape(
    logits: Float[Tensor, "B V"], generations: Sequence[Generation]
) -> tuple[Float[Tensor, "B V"], dict[int, Failure]]:
    """Return the logits after steps 1 to 4, and the rows whose rule has no way on. Logits that nobody changes are
    returned as they are; they are never written to.

    >>> from malmoi.engine import Request, SamplingParams
    >>> generation = Generation(Request(tokens=[0, 2], params=SamplingParams(repetition_penalty=2.0)))
    >>> reshape(torch.tensor([[4.0, 4.0, -4.0]]), [generation])
    (tensor([[ 2.,  4., -8.]]), {})
    """
    masks, failures = _masks(generations, logits.shape[-1])
    forbidden = [_forbidden(generation) for generation in generations]
    if not (masks or any(forbidden) or any(map(_is_changed, generations))):
        return logits, failures
    logits = logits.clone(memory_format=torch.contiguous_format)
    _repetition(logits, generations)
    _frequency_and_presence(logits, generations)
    _bias(logits, generations)
    logits[_indices(forbidden, logits.device)] = -math.inf
    if masks:
        rows = list(masks)
        allowed = torch.stack(list(masks.values())).to(logits.device)
        logits[rows] = torch.where(allowed, logits[rows], -math.inf)
    return logits, failures


def _is_changed(generation: Generation) -> bool:
    params = generation.request.params
    return bool(
        params.repetition_penalty != 1
        or params.frequency_penalty
        or params.presence_penalty
        or params.logit_bias
    )


def _repetition(logits: Float[Tensor, "B V"], generations: Sequence[Generation]) -> None:
    """Step 1 (mutates the logits)."""
    penalties = [generation.request.params.repetition_penalty for generation in generations]
    seen = [g.ids if penalty != 1 else () for g, penalty in zip(generations, penalties, strict=True)]
    if any(seen):
        places = _indices(seen, logits.device)
        penalty = torch.tensor(penalties, device=logits.device)[places[0]]
        old = logits[places]
        logits[places] = torch.where(old < 0, old * penalty, old / penalty)  # an id that is there twice, once


def _frequency_and_presence(logits: Float[Tensor, "B V"], generations: Sequence[Generation]) -> None:
    """Step 2 (mutates the logits)."""
    params = [generation.request.params for generation in generations]
    counted: list[Sequence[int]] = [
        (g.ids if p.penalty_scope == "all" else g.tokens) if p.frequency_penalty or p.presence_penalty else ()
        for g, p in zip(generations, params, strict=True)
    ]
    if any(counted):
        rows, ids = _places(counted)
        places, counts = np.unique(rows * logits.shape[-1] + ids, return_counts=True)
        rows = places // logits.shape[-1]
        frequency = np.array([p.frequency_penalty for p in params])[rows]
        presence = np.array([p.presence_penalty for p in params])[rows]
        penalty = torch.from_numpy(counts * frequency + presence).float()
        logits.view(-1)[torch.from_numpy(places).to(logits.device)] -= penalty.to(logits.device)


def _bias(logits: Float[Tensor, "B V"], generations: Sequence[Generation]) -> None:
    """Step 3 (mutates the logits)."""
    biases = [generation.request.params.logit_bias for generation in generations]
    if any(biases):
        places = _indices([tuple(bias) for bias in biases], logits.device)
        added = torch.tensor(list(chain(*(bias.values() for bias in biases))), dtype=torch.float32)
        logits[places] += torch.where(added > -100, added, -math.inf).to(logits.device)


def _forbidden(generation: Generation) -> frozenset[int]:
    """The ids that would end the answer before its `min_tokens`."""
    is_short = len(generation.choices) < generation.request.params.min_tokens
    return generation.request.stop_ids if is_short else frozenset()


def _masks(
    generations: Sequence[Generation], vocab_size: int
) -> tuple[dict[int, Bool[Tensor, " V"]], dict[int, Failure]]:
    """What the rules allow in each row that has one, and the rows where a rule has no way on."""
    masks: dict[int, Tensor] = {}
    failures: dict[int, Failure] = {}
    for row, rule in enumerate(generation.rule for generation in generations):
        try:
            mask = None if rule is None else rule.allowed()
        except RequestError as error:
            failures[row] = Failure(str(error))
            continue
        if mask is not None:
            assert mask.shape == (vocab_size,), f"{type(rule).__name__} has a mask of {tuple(mask.shape)}"
            masks[row] = mask
    return masks, failures


def _places(ids: Sequence[Iterable[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The row and the column of each id: `[[7, 8], [], [9]]` are the rows 0 0 2 and the columns 7 8 9."""
    each = [np.fromiter(row, dtype=np.int64) for row in ids]
    return np.repeat(np.arange(len(each)), [len(row) for row in each]), np.concatenate(each)


def _indices(
    ids: Sequence[Iterable[int]], device: torch.device
) -> tuple[Int[Tensor, " places"], Int[Tensor, " places"]]:
    rows, columns = _places(ids)
    return torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)
