"""Makes the next batches in a thread while the model computes; order and state stay those of the stream.

Worth it where a step is short (an accelerator); tokenizers release the GIL while they encode.
"""

from collections.abc import Mapping
from queue import Full, Queue
from threading import Event, Thread
from typing import Any

from malmoi.data.mixture import Progress
from malmoi.data.pack import PackedBatch, PackedStream
from malmoi.data.sources import SourceConfig

_Made = tuple[PackedBatch, dict[str, Any], list[tuple[SourceConfig, Progress]]]


class Prefetcher:
    """A `PackedStream` that runs up to `depth` batches ahead in a background thread.

    `state_dict` and `report` are those of the last batch handed out, not of the last one made, so a resumed
    run sees the same batches whether either run prefetched or not. An error in the thread is raised by
    `next`. Takes over the stream: do not use it elsewhere. `close` it, or use it in a `with` statement.
    """

    def __init__(self, stream: PackedStream, *, depth: int = 4) -> None:
        self._stream = stream
        self._depth = depth
        self._start()

    def _start(self) -> None:
        self._state, self._report = self._stream.state_dict(), self._stream.report()
        self._made: Queue[_Made | BaseException] = Queue(self._depth)
        self._stop = Event()
        self._ended: BaseException | None = None
        self._thread = Thread(target=self._run, args=(self._made, self._stop), daemon=True, name="prefetch")
        self._thread.start()

    def _run(self, made: "Queue[_Made | BaseException]", stop: Event) -> None:
        result: _Made | BaseException
        while not stop.is_set():
            try:
                result = (next(self._stream), self._stream.state_dict(), self._stream.report())
            except BaseException as error:  # noqa: BLE001 -- next() raises it, whatever it is: nobody may wait forever
                result = error
            while not stop.is_set():
                try:
                    made.put(result, timeout=0.1)
                    break
                except Full:
                    continue
            if isinstance(result, BaseException):
                return

    def __iter__(self) -> "Prefetcher":
        return self

    def __next__(self) -> PackedBatch:
        if self._ended is None:
            made = self._made.get()
            if not isinstance(made, BaseException):
                batch, self._state, self._report = made
                return batch
            self._ended = made
        raise self._ended

    def report(self) -> list[tuple[SourceConfig, Progress]]:
        """As `PackedStream.report`, of the batches handed out so far."""
        return self._report

    def state_dict(self) -> dict[str, Any]:
        """As `PackedStream.state_dict`, of the batches handed out so far."""
        return self._state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As `PackedStream.load_state_dict`. Batches made ahead are thrown away."""
        self.close()
        self._stream.load_state_dict(state)
        self._start()

    def close(self) -> None:
        """Stop the thread and wait for it."""
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
