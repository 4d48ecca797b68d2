"""Ctrl-C as a question that the loop asks between two steps, so that a run that is stopped saves itself."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from malmoi.core.errors import TrainingError


class Interrupted(TrainingError):
    """The run was asked to stop, and saved itself."""


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Lend a function that tells whether Ctrl-C or SIGTERM has come; a second one does what it did before.

    Outside of the main thread, where Python allows no handlers, it never tells so.

        with stop_requests() as is_stopping:
            while not is_stopping():
                step()
    """
    requests: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        requests.append(number)
        signal.signal(number, before[number])

    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, remember)
    except ValueError:  # not the main thread: whoever runs us handles signals
        yield lambda: False
        return
    try:
        yield lambda: bool(requests)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
