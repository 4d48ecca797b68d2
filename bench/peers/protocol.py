"""How a race talks with a peer: a line of JSON asks, a line of JSON answers.

Each peer runs in an environment of its own, so this file needs the standard library alone. An adapter is a `Peer` and
the line `answer(MyPeer())`; the race holds the other end, `Running`. Read next: `transformers/adapter.py`.
"""

import json
import os
import select
import subprocess
import sys
import traceback
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any


class Peer(ABC):
    """Something that generates tokens. Everything is greedy, and no token ends a sequence."""

    @abstractmethod
    def load(self, model: str, precision: str, threads: int) -> dict[str, Any]:
        """Load the Hugging Face directory `model` as "bf16", "int8" or "int4"; say the version and bytes of weights.

        What has to be converted is kept beside the directory, and found again.
        """

    @abstractmethod
    def run(self, prompts: list[list[int]], num_tokens: int) -> list[list[float]]:
        """Generate `num_tokens` for each prompt, all at once: seconds from the start to each token of each."""

    @abstractmethod
    def logprobs(self, tokens: list[int]) -> list[float]:
        """Log-probabilities of every token of the vocabulary after `tokens`."""


OPERATIONS = ("load", "run", "logprobs")


def answer(peer: Peer) -> None:
    """Serve `peer` on standard input and output until "quit" or the end of input."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print as they like; the channel is ours alone
    for line in sys.stdin:
        request = json.loads(line)
        operation = request.pop("do")
        if operation == "quit":
            return
        assert operation in OPERATIONS, f"{operation!r} is not one of {OPERATIONS}"
        try:
            reply = {"value": getattr(peer, operation)(**request)}
        except Exception as error:  # noqa: BLE001  whatever a peer cannot do is an answer
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)


class PeerError(Exception):
    """A peer cannot be had, has died, or answered with an error: why, in a line."""


class Running:
    """A peer's process, for a `with` statement. What it prints goes to `log`."""

    def __init__(self, command: list[str], *, log: Path, timeout: float = 900) -> None:
        self.log, self.timeout = log, timeout
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as file:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                encoding="utf-8",
            )

    def ask(self, operation: str, **arguments: Any) -> Any:
        """What the peer says to it. Raises PeerError."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(json.dumps({"do": operation, **arguments}), file=self.process.stdin, flush=True)
        except BrokenPipeError:
            raise PeerError(self._death()) from None
        if not select.select([self.process.stdout], [], [], self.timeout)[0]:
            self.process.kill()
            raise PeerError(f"{operation} took longer than {self.timeout:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            raise PeerError(self._death())
        reply = json.loads(line)
        if "error" in reply:
            raise PeerError(reply["error"])
        return reply["value"]

    def _death(self) -> str:
        code = self.process.wait()
        last = self.log.read_text("utf-8", errors="replace").strip().splitlines()[-1:]
        return f"it ended with exit code {code}: {''.join(last)}"

    def __enter__(self) -> "Running":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            print(json.dumps({"do": "quit"}), file=self.process.stdin, flush=True)
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
