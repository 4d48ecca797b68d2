"""A computation on a GPU that is launched as one: the recording of a step where its kernels run on a GPU.

A step of decoding is hundreds of launches, each of which takes the processor longer than its kernel takes the GPU. CUDA
keeps them as a graph. Place in the flow: `engine/replay.py` records steps. Read next: `kernels/recording.py`, the same
on a processor.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar
from weakref import WeakSet

import torch

from malmoi.nn.kernels.recording import CannotRecord, refusing_questions

T = TypeVar("T")


class GraphRecording(Generic[T]):
    """`function()`, computed now and captured. `replay` computes it again, from the numbers that are there then.

    As `recording.Recording`: it reads and writes the same memory each time. All graphs share the memory of what is
    computed on the way, so that results are to be used before another is replayed. To be made and replayed in
    inference mode. Raises CannotRecord where what is computed depends on the numbers.
    """

    out: T

    def __init__(self, function: Callable[[], T]) -> None:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), refusing_questions():
            function()  # kernels are compiled, libraries made ready: neither can be captured
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        shared = next((other._graph.pool() for other in _RECORDED), None)  # memory lives as long as one graph of it
        try:
            with torch.cuda.graph(self._graph, pool=shared):
                self.out = function()
        except RuntimeError as problem:
            raise CannotRecord(f"it does not only launch kernels: {problem}") from None
        _RECORDED.add(self)
        self.replay()  # capturing computes nothing

    def replay(self) -> T:
        """Compute it again (mutates `out`, and what the function mutates)."""
        self._graph.replay()
        return self.out


_RECORDED: WeakSet[GraphRecording[Any]] = WeakSet()
