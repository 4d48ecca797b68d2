"""What stands behind a name of the catalogue: an `Entry`, whatever kind of model it is.

    LocalModel     in this process, loaded when it is first asked for      local.py
    Upstream       on another machine, behind an OpenAI-compatible URL     upstream/
    Chooser        one of the others, chosen anew for each request         routed.py

Place in the flow: `catalogue.py` finds one by its name. Read next: `local.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from malmoi.llm import AsyncTextEncoder
from malmoi.llm.abilities import Abilities
from malmoi.llm.prompt import Prompt
from malmoi.llm.transcribe import AsyncTranscriber
from malmoi.server.catalogue.measured import Measures
from malmoi.server.catalogue.price import Price
from malmoi.server.catalogue.writer import Writer
from malmoi.server.errors import ServerError

Serving = Writer | AsyncTextEncoder | AsyncTranscriber
"""What answers requests, by what it does."""


class Entry(ABC):
    """A model that can be asked for.

    Attributes:
        kind: what it does, in a word; "" while nobody knows.
        price: what its tokens cost, if somebody said.
        measures: what its answers took; None while it has written none.
        num_bytes: memory that it takes in this process, weights and cache.
    """

    kind: str = ""
    price: Price | None = None
    measures: Measures | None = None
    num_bytes: int = 0

    @property
    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it answers. Raises ServerError (503) if the last try to have it ready was in vain."""

    @property
    def is_loaded(self) -> bool:
        """Whether it answers at once: what is on another machine is not ours to load."""
        return True

    @abstractmethod
    async def serving(self) -> Serving:
        """What answers, there until the request that asks has ended. Raises ServerError if it cannot be had."""

    def described(self) -> dict[str, Any]:
        """What is known of it now, as `/v1/models` tells it."""
        return {
            "kind": self.kind or None,
            "loaded": self.is_loaded,
            "bytes": self.num_bytes,
            "price": None if self.price is None else asdict(self.price),
        }

    async def close(self) -> None:
        """Stop it, and end what is going on."""
        return None


def as_told(abilities: Abilities) -> dict[str, Any]:
    """What a model can do, as `/v1/models` tells it.

    >>> as_told(Abilities(media=frozenset({"image"})))
    {'thinking': 'never', 'tools': False, 'fills_gaps': False, 'media': ['image']}
    """
    return {**asdict(abilities), "media": sorted(abilities.media)}


class Pick(NamedTuple):
    """Which of the others answers a request, and why, in a sentence."""

    name: str
    why: str


class Chooser(Entry):
    """A model that writes nothing itself, and says for each prompt which other one is to."""

    kind = "routed"

    @property
    def is_ready(self) -> bool:
        return True

    @abstractmethod
    def choose(self, prompt: Prompt, headers: Mapping[str, str]) -> Pick:
        """Who answers; `headers` are those of the request. It takes some milliseconds."""

    async def serving(self) -> Serving:
        raise ServerError(
            "this model chooses another for each conversation. Name one of those.", param="model"
        )
