"""What happens to memory that was freed: it is kept for the next step instead of being given back to the system.

A forward pass allocates and frees the same tensors over and over. The C library of Linux returns large pieces at
once, and the kernel then hands out every page of the next one anew, zeroed: a third of the time of a long prompt. The
price is memory: kept pieces do not always fit the next step, so a process grows, by up to half where it was measured.
Place in the flow: the engine asks for it where its caller does. Read next: `engine/engine.py`.
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

    >>> keep_freed_memory() == (sys.platform == "linux" and "glibc" in platform.libc_ver())
    True
    """
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    settings = ((M_MMAP_THRESHOLD, LARGEST_KEPT), (M_TRIM_THRESHOLD, KEPT_IN_ALL))
    return all(library.mallopt(name, value) for name, value in settings)
