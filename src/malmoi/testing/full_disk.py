"""A disk that is full, without one: the kernel takes no byte of a file behind a limit that this process sets itself."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def disk_with_room_for(num_bytes: int) -> Iterator[None]:
    """For the block no file may grow beyond `num_bytes`; writing more is an OSError, as on a full disk.

    >>> import tempfile
    >>> with tempfile.TemporaryFile("wb", buffering=0) as file, disk_with_room_for(3):
    ...     file.write("말모이".encode())
    3
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
