"""Steps of decoding, recorded: where as many sequences show one id each as before, nothing but kernels runs.

On a processor what is saved is Python's time, for a small model most of a step; on a GPU, where a recording is a graph,
the launches' too. Place in the flow: `runner.py` asks here for logits where everybody shows one id. Read next:
`nn/kernels/recording.py`, `nn/kernels/gpu/graph.py`.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from malmoi.engine.inputs import Layout, Send
from malmoi.nn.cache import PagedView
from malmoi.nn.context import Context
from malmoi.nn.kernels.native import TWINS, level
from malmoi.nn.kernels.on_gpu import has_gpu_kernels
from malmoi.nn.kernels.recording import CannotRecord, Recording
from malmoi.nn.stack import Decoder

if TYPE_CHECKING:
    from malmoi.nn.kernels.gpu.graph import GraphRecording

MAX_ROWS, MAX_ROWS_ON_GPU = 16, 256
"""With more sequences a step's kernels take so long that what happens between them does not count."""
NUM_KEPT, NUM_KEPT_ON_GPU = 4, 64
"""So many recordings are kept, those used last: each holds all that its step computes on the way; graphs share it."""
PATIENCE = 2
"""So many steps with as many sequences run as ever before one is recorded, which takes as long as a few of them."""

Key = tuple[int, torch.dtype | None, str, int, int]
"""How many sequences; activations in which precision; with which kernels; on how many threads; for how many blocks of
each."""
Inputs = Callable[[Layout, Send], tuple[Tensor, Context]]
"""Makes tokens and context of a layout, as `inputs.model_inputs` does."""


class Replay:
    """Logits of steps in which each sequence shows one id: at first of the model itself, then of a recording of it.

    A recording reads the model's weights where they lie. Numbers that change there are seen; another module, hook or
    tensor in the place of one is not, nor other memory for one (`parameter.data = ...`), until `forget`. Where the
    first part of a step looks at its numbers, as packed tables and rotations that depend on the length do, what comes
    behind the embedding is recorded alone. A model that looks at its numbers on the way, such as a mixture of experts,
    is not recorded, nor one that is compiled.
    """

    def __init__(self, decoder: Decoder, send: Send) -> None:
        self.decoder, self.send = decoder, send
        self.is_on_gpu = decoder.device.type == "cuda"
        self.recorded: OrderedDict[Key, RecordedStep] = OrderedDict()  # the last used is last
        self._num_seen: Counter[Key] = Counter()
        self.forget()

    def forget(self) -> None:
        """Record anew what is asked for from now on."""
        self.recorded.clear()
        self._num_seen.clear()
        self.can_record = self.has_embedding = True

    def logits(self, layout: Layout, inputs: Inputs) -> Float[Tensor, "B V"]:
        """Those of the next tokens, until the next call. Extends the model's caches (mutates them)."""
        key = (
            len(layout.tokens),
            self.decoder.compute_dtype,
            level(),
            torch.get_num_threads(),
            _at_least(layout.num_blocks),
        )
        if key in self.recorded:
            self.recorded.move_to_end(key)
            return self.recorded[key].logits(layout)
        self._num_seen[key] += 1
        if self._is_worth_recording(key):
            try:
                return self._record(key, layout, inputs)
            except CannotRecord:
                self.has_embedding, self.can_record = False, self.has_embedding
        logits: Tensor = self.decoder.head(self.decoder.hidden(*inputs(layout, self.send))[0])
        return logits

    def _is_worth_recording(self, key: Key) -> bool:
        max_rows = MAX_ROWS_ON_GPU if self.is_on_gpu else MAX_ROWS
        has_kernels = has_gpu_kernels() if self.is_on_gpu else level() != TWINS
        return self.can_record and has_kernels and key[0] <= max_rows and self._num_seen[key] > PATIENCE

    def _record(self, key: Key, layout: Layout, inputs: Inputs) -> Float[Tensor, "B V"]:
        if any(module._compiled_call_impl is not None for module in self.decoder.modules()):
            raise CannotRecord("a compiled module runs kernels that nobody sees")
        own = layout.with_room(_at_least(layout.num_blocks))
        self.recorded[key] = step = RecordedStep(
            self.decoder, own, inputs, self.send, has_embedding=self.has_embedding
        )
        if len(self.recorded) > (NUM_KEPT_ON_GPU if self.is_on_gpu else NUM_KEPT):
            self.recorded.popitem(last=False)
        return step.recording.out


class RecordedStep:
    """A step that was recorded. It owns `layout`; `logits(other)` copies another step's numbers into it and replays."""

    def __init__(
        self, decoder: Decoder, layout: Layout, inputs: Inputs, send: Send, *, has_embedding: bool
    ) -> None:
        self.decoder, self.layout = decoder, layout
        self._sent: list[tuple[Tensor, Tensor]] = []  # what is not read where the layout has it

        def send_and_note(numbers: NDArray[Any]) -> Tensor:
            here, there = torch.from_numpy(numbers), send(numbers)
            if there.data_ptr() != here.data_ptr():
                self._sent.append((there, here))
            return there

        self.tokens, self.context = inputs(layout, send_and_note)
        for cache in self.context.caches:
            if not isinstance(cache, PagedView):
                raise CannotRecord("a recurrent layer looks at how long its sequences are")
            _ = cache.step.queries  # one a sequence, in all such steps; while it is recorded nobody may ask
        x, context = self.tokens, self.context
        self._embedded: list[Tensor] = []  # what the blocks read, where it is not recorded how that is made
        if not has_embedding:
            x, context = decoder.embed(x, context)
            self._embedded = _flat(x, context)
        states = decoder.hidden if has_embedding else decoder.transform
        recording = Recording if self.tokens.is_cpu else _graph_recording()
        self.recording = recording(lambda: decoder.head(states(x, context)[0]))

    def logits(self, layout: Layout) -> Float[Tensor, "B V"]:
        """Those of another step over the same caches (mutates them)."""
        self.layout.take(layout)
        for tensor, numbers in self._sent:
            tensor.copy_(numbers)
        if self._embedded:
            again = _flat(*self.decoder.embed(self.tokens, self.context))
            for own, new in zip(self._embedded, again, strict=True):
                own.copy_(new)
        return self.recording.replay()


def _flat(x: Tensor, context: Context) -> list[Tensor]:
    """What an embedding has made: the stream, and the rotations by which its positions turn."""
    return [x, *chain.from_iterable(context.rotations.values())]


def _graph_recording() -> "type[GraphRecording[Tensor]]":
    from malmoi.nn.kernels.gpu.graph import GraphRecording  # imports Triton

    return GraphRecording


def _at_least(num_blocks: int) -> int:
    """For how many blocks of each sequence a recording has room: twice as many each time that they are too few.

    >>> [_at_least(number) for number in (3, 64, 65)]
    [64, 64, 128]
    """
    return max(64, 1 << (num_blocks - 1).bit_length())
