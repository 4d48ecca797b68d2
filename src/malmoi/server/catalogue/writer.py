"""What the endpoints know of a model that writes text, wherever it runs: `Writer`.

    catalogue.choose -> Chosen: a name, a WRITER, why -> deltas -> openai/, anthropic/, ollama/

Place in the flow: the catalogue has one for each model, `measured.py` those of this process. Read next: `catalogue.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from malmoi.engine import SamplingParams
from malmoi.llm import LLM, Completion
from malmoi.llm.abilities import Abilities
from malmoi.llm.answer import Delta
from malmoi.llm.prompt import Prompt

Steps = AsyncGenerator[list[Delta] | Completion, None]
"""What each step adds to each text of an answer, and at last the completion: as `AsyncLLM.deltas` has them."""


class Writer(ABC):
    """A model that writes text."""

    @property
    @abstractmethod
    def default_params(self) -> SamplingParams:
        """How it samples when a request does not say."""

    @property
    def abilities(self) -> Abilities:
        """What it can do beside writing. Of a model elsewhere nobody knows: it is asked, and may refuse."""
        return Abilities(
            thinking="switchable", tools=True, fills_gaps=True, media=frozenset({"image", "audio"})
        )

    @abstractmethod
    def answer(self, prompt: Prompt, params: SamplingParams, *, priority: int = 0, salt: str = "") -> Steps:
        """The answer as it comes. The first step adds nothing; whatever is wrong with the request is raised before.

        A request of a higher `priority` goes later, and what it has computed is found by those of the same `salt` only.
        """

    @abstractmethod
    async def num_tokens(self, prompt: Prompt) -> int:
        """How many tokens a prompt has. Raises ServerError where only another machine could tell."""

    @property
    @abstractmethod
    def local(self) -> LLM:
        """The model in this process, for what needs its insides. Raises ServerError (400) if it runs elsewhere."""

    @abstractmethod
    async def close(self) -> None:
        """Stop it, and end what is going on."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The model that answers a request: what it is called, and why it was chosen, if the request left that open."""

    name: str
    writer: Writer
    why: str | None = None
