"""Tokens hidden in a batch, to be guessed: what BERT learns from.

Place in the flow: a packed batch without targets -> `mask_tokens` -> one whose targets are the hidden tokens.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from malmoi.data.pack import PackedBatch
from malmoi.data.samples import NO_TARGET


def mask_tokens(
    batch: PackedBatch, *, is_special: Bool[Tensor, " V"], mask_id: int, rate: float, seed: int
) -> PackedBatch:
    """Hide a share of `rate` of the batch's ordinary tokens; what stood there is the target.

    Of the chosen tokens 80 % become `mask_id`, 10 % another ordinary token, 10 % stay (Devlin et al. 2018,
    arXiv:1810.04805, section 3.1). Our difference: the shares are exact, to a token, and not on average. Mutates
    nothing; the same seed hides the same tokens.

    >>> batch = PackedBatch(tokens=torch.arange(4, 104)[None], targets=torch.full((1, 100), -100), lengths=(100,))
    >>> is_special = torch.arange(104) < 4
    >>> masked = mask_tokens(batch, is_special=is_special, mask_id=3, rate=0.2, seed=0)
    >>> (masked.targets != -100).sum(), (masked.tokens == 3).sum()
    (tensor(20), tensor(16))
    """
    generator = torch.Generator().manual_seed(seed)
    candidates = (~is_special[batch.tokens[0]]).nonzero()[:, 0]
    num_chosen = round(rate * len(candidates))
    chosen = candidates[torch.randperm(len(candidates), generator=generator)[:num_chosen]]
    num_masked, num_replaced = round(0.8 * num_chosen), round(0.1 * num_chosen)
    masked, replaced = chosen[:num_masked], chosen[num_masked : num_masked + num_replaced]
    ordinary = (~is_special).nonzero()[:, 0]
    tokens, targets = batch.tokens.clone(), torch.full_like(batch.tokens, NO_TARGET)
    targets[0, chosen] = tokens[0, chosen]
    tokens[0, masked] = mask_id
    tokens[0, replaced] = ordinary[torch.randint(len(ordinary), (len(replaced),), generator=generator)]
    return replace(batch, tokens=tokens, targets=targets)
