"""An environment for each peer, made when it is first needed and kept below `build/peers`.

A peer's `requirements.txt` names every package by its version, and nothing else is installed beside them: what a peer
declares but does not need for this (CUDA's libraries, a torchvision for another torch) stays away. A peer without the
file runs in Malmoi's own environment.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

from peers.protocol import PeerError

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "peers"


def names() -> list[str]:
    """Every peer that has an adapter.

    >>> "transformers" in names()
    True
    """
    return sorted(file.parent.name for file in HERE.glob("*/adapter.py"))


def command(name: str) -> list[str]:
    """How to start the adapter of a peer, in its environment. Raises PeerError if that cannot be made."""
    requirements = HERE / name / "requirements.txt"
    python = Path(sys.executable) if not requirements.is_file() else environment(BUILD / name, requirements)
    return [str(python), "-c", _START, str(HERE.parent), f"peers.{name}.adapter"]


# The adapters are modules of the folder `bench`, wherever Python is.
_START = (
    "import runpy, sys; sys.path.insert(0, sys.argv[1]); runpy.run_module(sys.argv[2], run_name='__main__')"
)


def environment(home: Path, requirements: Path) -> Path:
    """The Python of an environment in `home` that has `requirements`, made anew if they have changed.

    Raises PeerError if it cannot be made, with the last line of what pip said.
    """
    python, stamp, log = home / "bin" / "python", home / "installed", home.with_name(f"{home.name}.install.log")
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text("ascii") == wanted:
        return python
    print(f"making the environment of {home.name} (minutes; {log})", flush=True)
    home.mkdir(parents=True, exist_ok=True)
    # Python compiles what is imported; most of it never is.
    install = [str(python), "-m", "pip", "install", "--no-deps", "--no-compile", "--requirement", str(requirements)]
    with log.open("w", encoding="utf-8") as file:
        for step in ([sys.executable, "-m", "venv", "--clear", str(home)], install):
            if subprocess.run(step, stdout=file, stderr=subprocess.STDOUT).returncode:
                last = log.read_text("utf-8", errors="replace").strip().splitlines()[-1:]
                raise PeerError(f"its environment cannot be made: {''.join(last)} ({log})")
    stamp.write_text(wanted, "ascii")
    return python
