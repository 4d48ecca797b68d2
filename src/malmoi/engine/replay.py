"""Steps of decoding, recorded: where as many sequences show one id each as before, nothing but kernels runs.

What a GPU's graphs are for launches, a recording is for Python: for a small model, most of a step. Place in the flow:
`runner.py` asks here for logits where everybody shows one id. Read next: `nn/kernels/recording.py`.
"""

from collections import Counter, OrderedDict
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from malmoi.nn.cache import BlockTables, PagedStep, PagedView
from malmoi.nn.context import Context
from malmoi.nn.kernels.native import TWINS, level
from malmoi.nn.kernels.recording import CannotRecord, Recording
from malmoi.nn.rope import Rotation
from malmoi.nn.stack import Decoder

MAX_ROWS = 16
"""With more sequences a step's kernels take so long that what happens between them does not count."""
NUM_KEPT = 4
"""So many recordings are kept, those used last: each holds all that its step computes on the way."""
PATIENCE = 2
"""So many steps with as many sequences run as ever before one is recorded, which takes as long as a few of them."""

Key = tuple[int, torch.dtype, str, int]
"""How many sequences; in which precision; with which kernels; on how many threads."""


class Replay:
    """Logits of steps in which each sequence shows one id: at first of the model itself, then of a recording of it.

    A recording reads the model's weights where they lie. Numbers that change there are seen; another module, hook or
    tensor in the place of one is not, nor other memory for one (`parameter.data = ...`), until `forget`. A model that
    looks at its numbers on the way, such as a mixture of experts, is not recorded, nor one that is compiled.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.can_record = True
        self.recorded: OrderedDict[Key, RecordedStep] = OrderedDict()  # the last used is last
        self._num_seen: Counter[Key] = Counter()

    def forget(self) -> None:
        """Record anew what is asked for from now on."""
        self.recorded.clear()
        self._num_seen.clear()
        self.can_record = True

    def logits(self, tokens: Int[Tensor, "1 B"], context: Context) -> Float[Tensor, "B V"]:
        """Those of the next tokens, until the next call. Extends the caches of `context` (mutates them)."""
        x, context = self.decoder.embed(tokens, context)
        key = (tokens.shape[1], x.dtype, level(), torch.get_num_threads())
        if key in self.recorded:
            self.recorded.move_to_end(key)
            return self.recorded[key].logits(x, context)
        self._num_seen[key] += 1
        has_kernels = x.is_cpu and level() != TWINS
        if self.can_record and has_kernels and x.shape[1] <= MAX_ROWS and self._num_seen[key] > PATIENCE:
            try:
                return self._record(key, x, context)
            except CannotRecord:
                self.can_record = False
        return _logits(self.decoder, x, context)

    def _record(self, key: Key, x: Float[Tensor, "1 B D"], context: Context) -> Float[Tensor, "B V"]:
        if any(module._compiled_call_impl is not None for module in self.decoder.modules()):
            raise CannotRecord("a compiled module runs kernels that nobody sees")
        self.recorded[key] = step = RecordedStep(self.decoder, x, context)
        if len(self.recorded) > NUM_KEPT:
            self.recorded.popitem(last=False)
        return step.recording.out


class RecordedStep:
    """The second half of a step, blocks and head, over copies of all that it is told: these stay where they are."""

    def __init__(self, decoder: Decoder, x: Float[Tensor, "1 B D"], context: Context) -> None:
        self.x = x.clone()
        self.positions, self.sequence_lengths = context.positions.clone(), context.sequence_lengths.clone()
        self.rotations = {name: Rotation(*map(torch.clone, pair)) for name, pair in context.rotations.items()}
        views = _views(context)
        own = {id(view.step): _with_room(view) for view in views}
        self.steps = list(own.values())
        context = replace(
            context,
            positions=self.positions,
            sequence_lengths=self.sequence_lengths,
            rotations=self.rotations,
            caches=[view.pool.at(own[id(view.step)]) for view in views],
        )
        self.recording = Recording(lambda: _logits(decoder, self.x, context))

    def logits(self, x: Float[Tensor, "1 B D"], context: Context) -> Float[Tensor, "B V"]:
        """Those of another step over the same caches (mutates them)."""
        self.x.copy_(x)
        self.positions.copy_(context.positions)
        self.sequence_lengths.copy_(context.sequence_lengths)
        for name, pair in context.rotations.items():
            for own, new in zip(self.rotations[name], pair, strict=True):
                own.copy_(new)
        steps = {id(view.step): view.step for view in _views(context)}
        for mine, step in zip(self.steps, steps.values(), strict=True):
            _copy(step, mine)
        return self.recording.replay()


def _logits(decoder: Decoder, x: Float[Tensor, "1 B D"], context: Context) -> Float[Tensor, "B V"]:
    logits: Tensor = decoder.head(decoder.transform(x, context)[0])
    return logits


def _views(context: Context) -> list[PagedView]:
    views = [cache for cache in context.caches if isinstance(cache, PagedView)]
    if len(views) < len(context.caches):
        raise CannotRecord("a recurrent layer looks at how long its sequences are")
    return views


def _with_room(view: PagedView) -> PagedStep:
    """A copy of what the layers of a group are told, with room for as many blocks as there are."""
    step, blocks = view.step, view.step.blocks
    if blocks is None:
        raise CannotRecord("keys lie in no blocks")
    tables = blocks.tables.new_zeros(len(blocks.tables), len(view.pool.k) // blocks.block_size)
    own = replace(
        step,
        write=step.write.clone(),
        blocks=BlockTables(tables, blocks.lengths.clone(), blocks.block_size),
    )
    own.__dict__["queries"] = (
        step.queries
    )  # not asked for while it is recorded: one a sequence, in all such steps
    _copy(step, own)
    return own


def _copy(step: PagedStep, to: PagedStep) -> None:
    """Let `to` say what `step` says (mutates it)."""
    assert step.blocks is not None
    assert to.blocks is not None
    to.write.copy_(step.write)
    to.blocks.tables[:, : step.blocks.tables.shape[1]].copy_(step.blocks.tables)
    to.blocks.lengths.copy_(step.blocks.lengths)
