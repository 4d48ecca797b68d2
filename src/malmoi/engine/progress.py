"""What is new of an answer, for whoever reads it while it grows.

    Generation and its siblings -> FOLLOWER -> Progress of each: the new tokens, and the end

Place in the flow: `AsyncEngine.follow` asks after each step, in the engine's thread, and sends on what it gets; whoever
steps an `Engine` asks when it likes. Read next: `malmoi/llm/answer.py`, which makes text of it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from malmoi.engine.request import Choice, FinishReason, Generation


class Progress(NamedTuple):
    """What has come to a generation since one last asked, and why it has ended, if it has: as it was at that moment."""

    generation: Generation
    choices: Sequence[Choice]
    finish_reason: FinishReason | None


class Follower:
    """Reads one generation and its siblings, and remembers how far.

    >>> from malmoi.engine import Request
    >>> generation, follower = Generation(Request(tokens=[5])), Follower()
    >>> generation.append(Choice(7))
    >>> [(one.choices, one.finish_reason) for one in follower.news(generation)]
    [([Choice(token=7, chosen=None, top=())], None)]
    >>> follower.news(generation)
    []
    """

    def __init__(self) -> None:
        self._told: dict[Generation, tuple[int, FinishReason | None]] = {}

    def news(self, generation: Generation) -> list[Progress]:
        """The progress of the generation and of its siblings, in their order; nothing if none has made any."""
        family = (generation, *generation.siblings)
        now = {one: (len(one.choices), one.finish_reason) for one in family}
        if now == self._told:
            return []
        progress = [
            Progress(one, one.choices[self._told.get(one, (0, None))[0] : num], reason)
            for one, (num, reason) in now.items()
        ]
        self._told = now
        return progress
