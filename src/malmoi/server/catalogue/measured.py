"""What an answer took, counted for all of them: `MeasuredLLM`, and the `Measures` that it keeps.

Place in the flow: the catalogue serves every model that writes text as one of these, so no endpoint can forget to
count. Read next: `metrics.py`, which writes the numbers down.
"""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from itertools import pairwise
from types import MappingProxyType
from typing import get_args

from malmoi.engine import SamplingParams
from malmoi.llm import LLM, AsyncLLM, Completion
from malmoi.llm.abilities import Abilities
from malmoi.llm.answer import Delta
from malmoi.llm.completion import FinishedBy
from malmoi.llm.media import Media
from malmoi.llm.prompt import Prompt
from malmoi.server.catalogue.writer import Steps, Writer
from malmoi.server.errors import ServerError

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Histogram:
    """How often a value was at most each of `bounds`, how often it was anything, and the sum.

    >>> seconds = Histogram((0.1, 1.0))
    >>> for value in (0.05, 0.1, 0.5, 3.0):
    ...     seconds.observe(value)
    >>> seconds.counts, round(seconds.sum, 2)
    ([2, 1, 1], 3.65)
    """

    def __init__(self, bounds: Sequence[float] = _SECONDS) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)  # each without those below; the last: above all bounds
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value (mutates the histogram)."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Measures:
    """The answers of one model so far. Tokens count when their answer has ended.

    Attributes:
        endings: how many ended so, by one of `ENDINGS`.
        num_prompt_tokens, num_cached_tokens: of all prompts; of these, what an earlier request had computed.
        num_new_tokens: what was generated, of all texts of an answer.
        first_token: seconds from a request to its first token.
        between_tokens: seconds from one token of a text to the next.
        whole: seconds from a request to its last token.
    """

    ENDINGS = (*get_args(FinishedBy), "refused", "failed", "cancelled")

    def __init__(self) -> None:
        self.endings: Counter[str] = Counter()
        self.num_prompt_tokens = self.num_cached_tokens = self.num_new_tokens = 0
        self.first_token, self.between_tokens, self.whole = Histogram(), Histogram(), Histogram()

    def note(self, completion: Completion) -> None:
        """Count an answer (mutates the measures)."""
        self.endings[completion.finish_reason] += 1
        self.num_prompt_tokens += completion.usage.prompt_tokens
        self.num_cached_tokens += completion.usage.cached_tokens
        texts = [completion, *completion.siblings]
        for text in texts:
            times = text.timings.token_times
            self.num_new_tokens += text.usage.completion_tokens
            for before, after in pairwise(times):
                self.between_tokens.observe(after - before)
        self.first_token.observe(min(text.timings.first_token for text in texts))
        self.whole.observe(max(text.timings.token_times[-1] for text in texts))


async def counted(steps: Steps, measures: Measures) -> Steps:
    """The same steps, and how they ended is counted (mutates `measures`)."""
    is_accepted = is_answered = False
    try:
        async with aclosing(steps):
            async for step in steps:
                is_accepted = True
                if isinstance(step, Completion):
                    is_answered = True
                    measures.note(step)
                yield step
    except Exception as error:
        is_theirs = isinstance(error, ServerError) and error.status >= 500  # of another machine
        measures.endings["failed" if is_accepted or is_theirs else "refused"] += 1
        raise
    except BaseException:  # whoever asked has what it wanted, or wants it no more
        if not is_answered:
            measures.endings["cancelled"] += 1
        raise


class MeasuredLLM(AsyncLLM, Writer):
    """An `AsyncLLM` that counts what it answers in `measures`; those may go on from an earlier load of the model."""

    def __init__(self, llm: LLM, measures: Measures | None = None) -> None:
        super().__init__(llm)
        self.measures = measures or Measures()

    @property
    def default_params(self) -> SamplingParams:
        return self.llm.default_params

    @property
    def abilities(self) -> Abilities:
        return self.llm.abilities

    @property
    def local(self) -> LLM:
        return self.llm

    def answer(self, prompt: Prompt, params: SamplingParams, *, priority: int = 0, salt: str = "") -> Steps:
        return self.deltas(prompt, params, priority=priority, salt=salt)

    async def num_tokens(self, prompt: Prompt) -> int:
        asked = await asyncio.to_thread(self.llm.builder.build, prompt, SamplingParams())
        return len(asked.request.source or ()) + len(asked.request.tokens)

    async def deltas(
        self,
        prompt: Prompt,
        params: SamplingParams | None = None,
        media: Media = MappingProxyType({}),
        *,
        priority: int = 0,
        salt: str = "",
    ) -> AsyncGenerator[list[Delta] | Completion, None]:
        plain = super().deltas(prompt, params, media, priority=priority, salt=salt)
        async with aclosing(counted(plain, self.measures)) as steps:
            async for step in steps:
                yield step
