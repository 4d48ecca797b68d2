"""One forward pass for everybody: builds a step's tokens and their context, and samples from the rows that matter.

The tokens of all generations lie end to end in one row (1, T), whatever their lengths: no padding, and decoding
shares the pass with prompts (Yu et al. 2022, OSDI, section 3: "selective batching"). Read next: `sampling.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain

import torch
from torch import Tensor

from malmoi.engine.request import Choice, Failure, Generation
from malmoi.engine.sampling import sample
from malmoi.nn.cache import KeyValueSpec, PagedCache, PagedStep
from malmoi.nn.context import Context
from malmoi.nn.splice import Splice
from malmoi.nn.stack import Decoder, EncoderDecoder
from malmoi.nn.state import StatePool, StateStep


class Runner:
    """Owns the cache's memory and calls the model; who owns which block and state, the scheduler says.

    The weights are the model's own, never copied: what training changes, the next step uses.
    """

    def __init__(
        self,
        model: Decoder | EncoderDecoder,
        *,
        num_blocks: int,
        block_size: int,
        num_state_slots: int,
        num_source_blocks: int = 0,
    ) -> None:
        self.model = model
        self.block_size = block_size
        self.specs = model.cache_specs()
        self.no_states = torch.empty(1, 0, 0)
        dtype, device = model.compute_dtype or model.dtype, model.device
        self.pools = [
            PagedCache(
                (num_source_blocks if spec.is_of_source else num_blocks) * block_size,
                spec,
                dtype=dtype,
                device=device,
            )
            if isinstance(spec, KeyValueSpec)
            else StatePool(num_state_slots, spec, dtype=dtype, device=device)
            for spec in self.specs
        ]

    @torch.inference_mode()
    def run(self, plan: Mapping[Generation, int]) -> dict[Generation, Choice | Failure]:
        """Show the model `plan[generation]` pending ids of each; choose a token where none is left pending.

        A generation whose logits allow no choice gets a `Failure`; the others get what they get without it.

        Writes into the cache what the model keeps of what was shown, and reads what came before.
        """
        if not plan:
            return {}
        hidden = self.model.hidden(*self._inputs(plan))[0]
        ends = accumulate(plan.values())
        rows = {
            g: end - 1 for (g, count), end in zip(plan.items(), ends, strict=True) if count == g.num_pending
        }
        if not rows:  # only pieces of prompts
            return {}
        logits = self.model.head(hidden[list(rows.values())])
        return dict(zip(rows, sample(logits, list(rows)), strict=True))

    def _inputs(self, plan: Mapping[Generation, int]) -> tuple[Tensor, Context]:
        """This step's tokens, where each one stands, and what is cached of those before.

        One that decodes its 6th token beside one that prefills 3: positions 5 | 0 1 2, lengths 6 | 3 3 3.
        """
        tokens: list[int] = []
        positions: list[int] = []
        lengths: list[int] = []
        for generation, count in plan.items():
            start, end = generation.num_computed, generation.num_computed + count
            tokens += generation.ids[start:end]
            positions += range(start, end)
            lengths += [end] * count
        device = self.model.device
        offsets = torch.tensor([0, *accumulate(plan.values())])
        seen = [self._slots(g.blocks, g.num_computed + count) for g, count in plan.items()]
        paged, states = self._paged_step(seen, plan.values(), offsets), self._state_step(plan, offsets)
        source, of_source = None, paged
        if isinstance(self.model, EncoderDecoder):
            source = self._encode(self.model, plan)
            seen = [self._slots(g.source_blocks, len(g.request.source or ())) for g in plan]
            of_source = self._paged_step(seen, [g.num_source_pending for g in plan], offsets)
        context = Context(
            positions=torch.tensor([positions], device=device),
            sequence_lengths=torch.tensor([lengths], device=device),
            caches=[
                pool.at(states)
                if isinstance(pool, StatePool)
                else pool.at(of_source if spec.is_of_source else paged)
                for spec, pool in zip(self.specs, self.pools, strict=True)
            ],
            source=source,
            splice=self._splice(plan),
        )
        return torch.tensor([tokens], device=device), context

    def _splice(self, plan: Mapping[Generation, int]) -> Splice | None:
        """The part of each attachment that stands among this step's tokens; None without any."""
        device, dtype = self.model.device, self.model.dtype
        is_placeholder, features = [], []
        for generation, count in plan.items():
            start, end = generation.num_computed, generation.num_computed + count
            here = [False] * count
            for attachment in generation.request.attachments:
                first, last = max(attachment.start, start), min(attachment.end, end)
                if first < last:
                    here[first - start : last - start] = [True] * (last - first)
                    part = attachment.features[first - attachment.start : last - attachment.start]
                    features.append(part.to(device, dtype))
            is_placeholder += here
        if not features:
            return None
        return Splice(torch.tensor([is_placeholder], device=device), torch.cat(features))

    def _encode(self, model: EncoderDecoder, plan: Mapping[Generation, int]) -> Tensor:
        """The encoder's states of the sources that it has not read yet; they lie end to end, as tokens do."""
        sources = [g.request.source for g in plan if g.num_source_pending and g.request.source]
        if not sources:
            return self.no_states
        device = model.device
        places = Context.packed(list(map(len, sources)), specs=model.encoder.cache_specs(), device=device)
        states = model.encode(torch.tensor([list(chain(*sources))], device=device), places)
        self.no_states = states.new_empty(1, 0, states.shape[-1])  # what a step without a new source has
        return states

    def _paged_step(self, read: list[Tensor], num_new: Iterable[int], offsets: Tensor) -> PagedStep:
        """Where all keys that are seen lie, and where the last ones of each generation, the new ones, go."""
        write = [slots[len(slots) - new :] for slots, new in zip(read, num_new, strict=True)]
        device = self.model.device
        return PagedStep(
            write=torch.cat(write).to(device),
            read=torch.cat(read).to(device),
            query_offsets=offsets,
            key_offsets=torch.tensor([0, *accumulate(map(len, read))]),
        )

    def _state_step(self, plan: Mapping[Generation, int], offsets: Tensor) -> StateStep:
        """The slots of the step's states; one that was preempted begins again."""
        device = self.model.device
        return StateStep(
            slots=torch.tensor([generation.state_slot for generation in plan], device=device),
            is_new=torch.tensor([generation.num_computed == 0 for generation in plan], device=device),
            offsets=offsets,
        )

    def _slots(self, blocks: Sequence[int], length: int) -> Tensor:
        """The slots of the first `length` positions in `blocks`: block 7 of 4 slots is 28 29 30 31."""
        firsts = torch.tensor(blocks, dtype=torch.long)[:, None] * self.block_size
        return (firsts + torch.arange(self.block_size)).flatten()[:length]
