"""Steps of decoding, recorded: where as many sequences show one id each as before, nothing but kernels runs.

On a processor what is saved is Python's time, for a small model most of a step; on a GPU, where a recording is a graph,
the launches' too. Place in the flow: `runner.py` asks here for logits where everybody shows one id. Read next:
`nn/kernels/recording.py`, `nn/kernels/gpu/graph.py`.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from malmoi.nn.cache import BlockTables, PagedStep, PagedView
from malmoi.nn.context import Context
from malmoi.nn.kernels.native import TWINS, level
from malmoi.nn.kernels.on_gpu import has_gpu_kernels
from malmoi.nn.kernels.recording import CannotRecord, Recording
from malmoi.nn.rope import Rotation
from malmoi.nn.stack import Decoder

if TYPE_CHECKING:
    from malmoi.nn.kernels.gpu.graph import GraphRecording

MAX_ROWS, MAX_ROWS_ON_GPU = 16, 256
"""With more sequences a step's kernels take so long that what happens between them does not count."""
NUM_KEPT, NUM_KEPT_ON_GPU = 4, 64
"""So many recordings are kept, those used last: each holds all that its step computes on the way; graphs share it."""
PATIENCE = 2
"""So many steps with as many sequences run as ever before one is recorded, which takes as long as a few of them."""

Key = tuple[int, torch.dtype, str, int, int]
"""How many sequences; in which precision; with which kernels; on how many threads; for how many blocks of each."""


class Replay:
    """Logits of steps in which each sequence shows one id: at first of the model itself, then of a recording of it.

    A recording reads the model's weights where they lie. Numbers that change there are seen; another module, hook or
    tensor in the place of one is not, nor other memory for one (`parameter.data = ...`), until `forget`. Where the
    first part of a step looks at its numbers, as packed tables and rotations that depend on the length do, what comes
    behind the embedding is recorded alone. A model that looks at its numbers on the way, such as a mixture of experts,
    is not recorded, nor one that is compiled.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.is_on_gpu = decoder.device.type == "cuda"
        self.recorded: OrderedDict[Key, RecordedStep] = OrderedDict()  # the last used is last
        self._num_seen: Counter[Key] = Counter()
        self.can_record = self.has_embedding = True

    def forget(self) -> None:
        """Record anew what is asked for from now on."""
        self.recorded.clear()
        self._num_seen.clear()
        self.can_record = self.has_embedding = True

    def logits(self, tokens: Int[Tensor, "1 B"], context: Context) -> Float[Tensor, "B V"]:
        """Those of the next tokens, until the next call. Extends the caches of `context` (mutates them)."""
        inputs, precision = tokens, self.decoder.compute_dtype or self.decoder.dtype
        if not self.has_embedding:
            inputs, context = self.decoder.embed(tokens, context)
        key = (tokens.shape[1], precision, level(), torch.get_num_threads(), _room(context))
        if key in self.recorded:
            self.recorded.move_to_end(key)
            return self.recorded[key].logits(inputs, context)
        self._num_seen[key] += 1
        if self._is_worth_recording(key):
            try:
                return self._record(key, inputs, context)
            except CannotRecord:
                self.has_embedding, self.can_record = False, self.has_embedding
        return self._compute(inputs, context)

    def _is_worth_recording(self, key: Key) -> bool:
        max_rows = MAX_ROWS_ON_GPU if self.is_on_gpu else MAX_ROWS
        has_kernels = has_gpu_kernels() if self.is_on_gpu else level() != TWINS
        return self.can_record and has_kernels and key[0] <= max_rows and self._num_seen[key] > PATIENCE

    def _compute(self, inputs: Tensor, context: Context) -> Float[Tensor, "B V"]:
        """Of tokens, or of what the embedding has made of them."""
        if not inputs.is_floating_point():
            inputs, context = self.decoder.embed(inputs, context)
        logits: Tensor = self.decoder.head(self.decoder.transform(inputs, context)[0])
        return logits

    def _record(self, key: Key, inputs: Tensor, context: Context) -> Float[Tensor, "B V"]:
        if any(module._compiled_call_impl is not None for module in self.decoder.modules()):
            raise CannotRecord("a compiled module runs kernels that nobody sees")
        self.recorded[key] = step = RecordedStep(self._compute, inputs, context)
        if len(self.recorded) > (NUM_KEPT_ON_GPU if self.is_on_gpu else NUM_KEPT):
            self.recorded.popitem(last=False)
        return step.recording.out


class RecordedStep:
    """`compute(inputs, context)` over copies of all that it is told: these stay where they are."""

    def __init__(
        self, compute: Callable[[Tensor, Context], Tensor], inputs: Shaped[Tensor, "1 B *D"], context: Context
    ) -> None:
        self.inputs = inputs.clone()
        self.positions, self.sequence_lengths = context.positions.clone(), context.sequence_lengths.clone()
        self.rotations = {name: Rotation(*map(torch.clone, pair)) for name, pair in context.rotations.items()}
        views = _views(context)
        own = {id(view.step): _with_room(view, _room(context)) for view in views}
        self.steps = list(own.values())
        context = replace(
            context,
            positions=self.positions,
            sequence_lengths=self.sequence_lengths,
            rotations=self.rotations,
            caches=[view.pool.at(own[id(view.step)]) for view in views],
        )
        self.recording = _recording(inputs)(lambda: compute(self.inputs, context))

    def logits(self, inputs: Shaped[Tensor, "1 B *D"], context: Context) -> Float[Tensor, "B V"]:
        """Those of another step over the same caches (mutates them)."""
        self.inputs.copy_(inputs)
        self.positions.copy_(context.positions)
        self.sequence_lengths.copy_(context.sequence_lengths)
        for name, pair in context.rotations.items():
            for own, new in zip(self.rotations[name], pair, strict=True):
                own.copy_(new)
        steps = {id(view.step): view.step for view in _views(context)}
        for mine, step in zip(self.steps, steps.values(), strict=True):
            _copy(step, mine)
        return self.recording.replay()


def _views(context: Context) -> list[PagedView]:
    views = [cache for cache in context.caches if isinstance(cache, PagedView)]
    if len(views) < len(context.caches):
        raise CannotRecord("a recurrent layer looks at how long its sequences are")
    return views


def _recording(inputs: Tensor) -> type[Recording[Tensor]] | type["GraphRecording[Tensor]"]:
    if inputs.is_cpu:
        return Recording
    from malmoi.nn.kernels.gpu.graph import GraphRecording  # imports Triton

    return GraphRecording


def _room(context: Context) -> int:
    """For how many blocks of each sequence a recording has room: twice as many each time that they are too few.

    >>> [_at_least(number) for number in (3, 64, 65)]
    [64, 64, 128]
    """
    held = [view.step.blocks for view in context.caches if isinstance(view, PagedView)]
    return _at_least(max((blocks.tables.shape[1] for blocks in held if blocks is not None), default=0))


def _at_least(num_blocks: int) -> int:
    return max(64, 1 << (num_blocks - 1).bit_length())


def _with_room(view: PagedView, num_blocks: int) -> PagedStep:
    """A copy of what the layers of a group are told, with room for `num_blocks` of each sequence."""
    step, blocks = view.step, view.step.blocks
    if blocks is None:
        raise CannotRecord("keys lie in no blocks")
    tables = blocks.tables.new_zeros(len(blocks.tables), num_blocks)
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
