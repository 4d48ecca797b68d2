"""A process that dies between two steps on the disk, simulated: the way to prove that a write is atomic.

`dies_at(n)` lets n file-system operations pass (opening, renaming, removing, making directories, changing
modes, as Python's audit events report them), then raises `Killed` from the next one and every later one, so
that no clean-up runs either. Try every n, and look each time at what is left on the disk.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_EVENTS = frozenset(("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate"))
_remaining: int | None = None  # operations left to live; None outside of dies_at
_is_hooked = False


class Killed(BaseException):
    """Not an Exception, as a signal is none: nothing that handles errors may survive it."""


@contextmanager
def dies_at(operation: int) -> Iterator[list[bool]]:
    """Run the block until its file-system operation number `operation`, counted from 0; swallow the death.

    Yields a list that holds True after a death, and nothing if the block came to its end. An audit hook
    cannot be removed: the first use leaves an idle one in this process. One use at a time, in one thread.

    >>> with dies_at(0) as died:
    ...     _ = open("never.txt", "w")
    >>> died
    [True]
    """
    global _remaining, _is_hooked
    if not _is_hooked:
        sys.addaudithook(_count)
        _is_hooked = True
    died: list[bool] = []
    _remaining = operation
    try:
        yield died
    except Killed:
        died.append(True)
    finally:
        _remaining = None


def _count(event: str, _arguments: tuple[object, ...]) -> None:
    global _remaining
    if _remaining is None or event not in _EVENTS:
        return
    if _remaining == 0:
        raise Killed
    _remaining -= 1
