"""Programs that are not ours, each in an environment of its own: what it needs, by version, is in NAME.txt.

An environment is made below `build/clients` when it is first needed, in the way of bench/'s peers.
"""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
BUILD = ROOT / "build" / "clients"


@pytest.fixture(scope="session")
def programs() -> Callable[[str], Path]:
    """From the name of a client to the folder of its programs. Without a package registry the test is skipped."""

    def of(name: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(ROOT / "bench"))
            from peers.environments import environment
            from peers.protocol import PeerError
        BUILD.mkdir(parents=True, exist_ok=True)
        with (BUILD / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
            try:
                return Path(environment(BUILD / name, HERE / f"{name}.txt")).parent
            except PeerError as error:
                if os.environ.get("CI"):  # where there is a registry
                    raise
                pytest.skip(f"{name}: {error}")

    return of
