"""One forward pass for everybody: runs the model on a step's tokens, and samples from the rows that matter.

The tokens of all generations lie end to end in one row (1, T), whatever their lengths: no padding, and decoding
shares the pass with prompts (Yu et al. 2022, OSDI, section 3: "selective batching"). Read next: `inputs.py`, which
lays them out; `sampling.py`.
"""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from malmoi.engine.groups import Group, Kind
from malmoi.engine.inputs import Send, kind_of, lay_out, model_inputs, send_to, splice_of
from malmoi.engine.replay import Replay
from malmoi.engine.request import Choice, Generation, Outcome
from malmoi.engine.sampling import sample
from malmoi.engine.scheduler import Plan
from malmoi.engine.scoring import score
from malmoi.nn.cache import KeyValueSpec, PagedCache
from malmoi.nn.context import Context
from malmoi.nn.stack import Decoder, EncoderDecoder
from malmoi.nn.state import StatePool


class Runner:
    """Owns the cache's memory, in pools of the kind `paged_cache`, and calls the model.

    Who owns which block and state, the scheduler says. Not `is_batched`, every generation has a pass of its own: its
    matrices then have the same shapes whoever runs beside it, and shapes decide in which order numbers are added up.

    The weights are the model's own, never copied: what training changes, the next step uses.
    """

    def __init__(
        self,
        model: Decoder | EncoderDecoder,
        *,
        groups: Sequence[Group],
        num_state_slots: int,
        paged_cache: type[PagedCache] = PagedCache,
        is_batched: bool = True,
    ) -> None:
        self.model, self.groups, self.is_batched = model, groups, is_batched
        # Asking in each step would look through all modules.
        self.device, self.dtype = model.device, model.dtype
        self.send: Send = partial(send_to, self.device)
        self.replay = Replay(model.decoder if isinstance(model, EncoderDecoder) else model, self.send)
        self.no_states = torch.empty(1, 0, 0) if isinstance(model, EncoderDecoder) else None  # of no source
        specs = model.cache_specs()
        self.kinds = list(map(kind_of, specs))
        memory: Any = {"dtype": model.compute_dtype or self.dtype, "device": self.device}
        num_slots = {group.kind: group.num_blocks * group.block_size for group in groups}
        self.pools = [
            paged_cache(num_slots[spec.window, spec.is_of_source], spec, **memory)
            if isinstance(spec, KeyValueSpec)
            else StatePool(num_state_slots, spec, **memory)
            for spec in specs
        ]
        self.inputs = partial(model_inputs, groups=groups, kinds=self.kinds, pools=self.pools)

    @torch.inference_mode()
    def run(self, plan: Plan) -> tuple[dict[Generation, list[Outcome]], dict[Generation, list[Choice]]]:
        """Show the model pending ids of each generation; choose a token where none is left pending.

        Behind each id of a draft another is chosen, as it would be if the draft were right up to there.

        Siblings that have waited for a prompt get a token of their own from the same logits. A generation whose logits
        allow no choice gets a `Failure`; the others get what they get without it. The second mapping has what the model
        says of the tokens of prompts, where that was asked for.

        Writes into the cache what the model keeps of what was shown, and reads what came before.
        """
        if plan.has_copies:
            self._copy(plan)
        outcomes: dict[Generation, list[Outcome]] = {}
        scores: dict[Generation, list[Choice]] = {}
        batches = [plan.counts] if self.is_batched else [{g: count} for g, count in plan.counts.items()]
        for batch in filter(None, batches):
            of_batch, scores_of_batch = self._forward(batch)
            outcomes |= of_batch
            scores |= scores_of_batch
        return outcomes, scores

    def _forward(
        self, counts: dict[Generation, int]
    ) -> tuple[dict[Generation, list[Outcome]], dict[Generation, list[Choice]]]:
        """One pass of the model."""
        layout = lay_out(counts, self.groups)
        hidden, logits = None, None
        if _shows_single_ids(counts):
            logits = self.replay.logits(layout, partial(self.inputs, source=self.no_states))
        else:
            splice = splice_of(counts, dtype=self.dtype, device=self.device)
            inputs = self.inputs(layout, self.send, source=self._encode(counts), splice=splice)
            hidden = self.model.hidden(*inputs)[0]
        rows: list[int] = []
        choosing: list[Generation] = []  # as they are, or would be
        owners: list[Generation] = []
        scores = {}
        end = 0
        for generation, count in counts.items():
            end += count
            if hidden is not None and generation.is_scoring:
                scores[generation] = self._score(generation, hidden[end - count : end])
            num_drafted = count - generation.num_pending
            if num_drafted >= 0:
                family = [generation, *generation.unborn]
                owners += family
                choosing += family
                rows += [end - 1 - num_drafted] * len(family)
            if num_drafted > 0:
                owners += [generation] * num_drafted
                choosing += islice(
                    accumulate(generation.draft, Generation.after, initial=generation), 1, None
                )
                rows += range(end - num_drafted, end)
        if not rows:  # only pieces of prompts
            return {}, scores
        if hidden is not None:
            each, which = np.unique(rows, return_inverse=True)
            rows, logits = which.tolist(), self.model.head(hidden[each])
        assert logits is not None
        if rows != list(range(len(logits))):
            logits = logits[rows]
        outcomes: dict[Generation, list[Outcome]] = {owner: [] for owner in owners}
        for owner, outcome in zip(owners, sample(logits, choosing), strict=True):
            outcomes[owner].append(outcome)
        return outcomes, scores

    def _score(self, generation: Generation, hidden: Tensor) -> list[Choice]:
        """Of the tokens of a prompt that come after each of those in `hidden`."""
        start, params = generation.num_computed, generation.request.params
        tokens = generation.request.tokens[start + 1 : start + 1 + len(hidden)]
        num_top = 0 if params.prompt_logprobs is True else params.prompt_logprobs
        return score(self.model.head, hidden, tokens, num_top=num_top)

    def _copy(self, plan: Plan) -> None:
        """Let blocks and states begin as others are, before anything is written."""
        device = self.device
        slots: dict[Kind | None, Tensor] = {}
        for group, copies in zip(self.groups, plan.copies, strict=True):
            if copies:
                blocks = torch.tensor([list(copies), list(copies.values())])[..., None] * group.block_size
                slots[group.kind] = (blocks + torch.arange(group.block_size)).flatten(1).to(device)
        if plan.state_copies:
            slots[None] = torch.tensor(
                [list(plan.state_copies), list(plan.state_copies.values())], device=device
            )
        for kind, pool in zip(self.kinds, self.pools, strict=True):
            if kind in slots:
                pool.copy(*slots[kind])

    def _encode(self, counts: dict[Generation, int]) -> Tensor | None:
        """The encoder's states of the sources that it has not read yet; they lie end to end, as tokens do."""
        sources = [g.request.source for g in counts if g.num_source_pending and g.request.source]
        if not sources or not isinstance(self.model, EncoderDecoder):
            return self.no_states
        device, specs = self.device, self.model.encoder.cache_specs()
        places = Context.packed(list(map(len, sources)), specs=specs, device=device)
        states = self.model.encode(torch.tensor([list(chain(*sources))], device=device), places)
        self.no_states = states.new_empty(1, 0, states.shape[-1])  # what a step without a new source has
        return states


def _shows_single_ids(counts: dict[Generation, int]) -> bool:
    """Whether everybody shows one id, or a draft's, each for itself, none of an image, and nothing else is asked."""
    return all(
        (count == 1 or generation.draft)
        and generation.num_computed >= generation.request.attached_end
        and not generation.num_source_pending
        and not generation.is_scoring
        for generation, count in counts.items()
    )
