"""Small HTTP servers of the standard library that tests let misbehave, each in a thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import HTTPServer


@contextmanager
def in_a_thread(server: HTTPServer) -> Iterator[None]:
    """Have it answer for as long as the context is open."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
