"""What happens to memory that was freed: it is kept for the next step instead of being given back to the system.

A forward pass allocates and frees the same tensors over and over. The C library of Linux returns large pieces at
once, and the kernel then hands out every page of the next one anew, zeroed: a third of the time of a long prompt. The
price is memory: kept pieces do not always fit the next step, so a process grows, by up to half where it was measured.
Place in the flow: the engine asks for it where its caller does, and a server gives back what a model has left. Read
next: `engine/engine.py`.
"""

import ctypes
import sys
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
LARGEST_KEPT = 32 * 2**20  # the most that glibc takes for a threshold; larger pieces still come and go
KEPT_IN_ALL = 2**30


@cache
def keep_freed_memory() -> bool:
    """Let this process keep pieces of up to 32 MB, 1 GB in all, that it frees; False where the C library cannot.

    For the whole process, and for good. With other libraries than glibc nothing is changed.

    >>> import platform
    >>> keep_freed_memory() == (sys.platform == "linux" and "glibc" in platform.libc_ver())
    True
    """
    library = _glibc()
    settings = ((M_MMAP_THRESHOLD, LARGEST_KEPT), (M_TRIM_THRESHOLD, KEPT_IN_ALL))
    return library is not None and all(library.mallopt(name, value) for name, value in settings)


def give_back_freed_memory() -> None:
    """Hand what this process has freed and still keeps to the system: after something large has gone for good.

    With other libraries than glibc nothing happens.
    """
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    """The C library of this process, if it is glibc."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
