"""One forward pass for everybody: builds a step's tokens and their context, and samples from the rows that matter.

The tokens of all generations lie end to end in one row (1, T), whatever their lengths: no padding, and decoding
shares the pass with prompts (Yu et al. 2022, OSDI, section 3: "selective batching"). Read next: `sampling.py`.
"""

from collections.abc import Mapping
from itertools import accumulate

import torch
from torch import Tensor

from malmoi.engine.request import Choice, Generation
from malmoi.engine.sampling import sample
from malmoi.nn.cache import PagedCache, PagedStep
from malmoi.nn.context import Context
from malmoi.nn.stack import Decoder


class Runner:
    """Owns the cache's memory and calls the model; who owns which block, the scheduler says.

    The weights are the model's own, never copied: what training changes, the next step uses.
    """

    def __init__(self, model: Decoder, *, num_blocks: int, block_size: int) -> None:
        self.model = model
        self.block_size = block_size
        self.pools = [
            PagedCache(
                num_blocks * block_size, spec, dtype=model.compute_dtype or model.dtype, device=model.device
            )
            for spec in model.cache_specs()
        ]

    @torch.inference_mode()
    def run(self, plan: Mapping[Generation, int]) -> dict[Generation, Choice]:
        """Show the model `plan[generation]` pending ids of each; choose a token where none is left pending.

        Writes into the cache the keys and values of what was shown, and reads those that came before.
        """
        if not plan:
            return {}
        tokens, context = self._inputs(plan)
        hidden = self.model.hidden(tokens, context)[0]
        ends = accumulate(plan.values())
        rows = {
            g: end - 1 for (g, count), end in zip(plan.items(), ends, strict=True) if count == g.num_pending
        }
        if not rows:  # only pieces of prompts
            return {}
        logits = self.model.head(hidden[list(rows.values())])
        return dict(zip(rows, sample(logits, list(rows)), strict=True))

    def _inputs(self, plan: Mapping[Generation, int]) -> tuple[Tensor, Context]:
        """This step's tokens, where each one stands, and the slots of their keys.

        One that decodes its 6th token beside one that prefills 3: positions 5 | 0 1 2, lengths 6 | 3 3 3.
        """
        tokens: list[int] = []
        positions: list[int] = []
        lengths: list[int] = []
        write: list[Tensor] = []
        read: list[Tensor] = []
        for generation, count in plan.items():
            start, end = generation.num_computed, generation.num_computed + count
            tokens += generation.ids[start:end]
            positions += range(start, end)
            lengths += [end] * count
            slots = self._slots(generation, end)
            write.append(slots[start:])
            read.append(slots)
        device = self.model.device
        step = PagedStep(
            write=torch.cat(write).to(device),
            read=torch.cat(read).to(device),
            query_offsets=torch.tensor([0, *accumulate(plan.values())]),
            key_offsets=torch.tensor([0, *accumulate(map(len, read))]),
        )
        context = Context(
            positions=torch.tensor([positions], device=device),
            sequence_lengths=torch.tensor([lengths], device=device),
            caches=[pool.at(step) for pool in self.pools],
        )
        return torch.tensor([tokens], device=device), context

    def _slots(self, generation: Generation, length: int) -> Tensor:
        """The slots of its first `length` positions: block 7 of 4 slots is 28 29 30 31."""
        blocks = torch.tensor(generation.blocks)
        return (blocks[:, None] * self.block_size + torch.arange(self.block_size)).flatten()[:length]
