"""What users wait for, through the engine: a prompt's first token, and then the next ones, alone and beside others.

Each is called again and again and gives seconds. The engine's public face is all that they know. Read next:
`report.py`, which calls them in turn.
"""

import random
import time

from malmoi.budget import cache_bytes
from malmoi.core.errors import ConfigError
from malmoi.engine import Generation, Request, SamplingParams
from malmoi.engine.engine import Engine
from malmoi.nn.stack import Decoder

NUM_STEPS = 8
"""Tokens a sequence that a turn of decoding takes."""
ROOM = 512
"""Tokens that sequences may grow by before they begin again, where the model has so many positions."""
PIECE = 512
"""Tokens of prompts that the model sees at once, beside one of each sequence that decodes."""


class Prefill:
    """A prompt of `length` tokens that nothing is cached of; a call gives the seconds until its first token."""

    def __init__(self, model: Decoder, length: int) -> None:
        self.length = length
        self.engine = _engine(model, batch=1, length=length + 1)
        self.prompts = Prompts(model)

    def __call__(self) -> float:
        prompt = self.prompts.draw(self.length)
        [generation] = self.engine.generate([prompt], SamplingParams(temperature=0, max_tokens=1))
        return generation.token_times[0]


class Decode:
    """`batch` sequences, each `context` tokens long when they begin; a call gives the seconds of a token of each.

    They stay in the cache from call to call and grow; when there is no more room they are begun anew, untimed.
    """

    def __init__(self, model: Decoder, *, batch: int, context: int) -> None:
        self.batch, self.context = batch, context
        ahead = batch * context // PIECE  # how far the first sequence has come when the last one begins
        least = context + ahead + NUM_STEPS + 1
        self.longest = max(least, min(model.max_positions, least + ROOM))
        self.engine = _engine(model, batch=batch, length=self.longest)
        self.prompts = Prompts(model)
        self.generations: list[Generation] = []

    def __call__(self) -> float:
        if not self.generations or len(self.generations[0].ids) + NUM_STEPS >= self.longest:
            self.begin()
        began = time.perf_counter()
        for _ in range(NUM_STEPS):
            self.engine.step()
        seconds = (time.perf_counter() - began) / NUM_STEPS
        for generation in self.generations:
            generation.raise_if_failed()
        return seconds

    def begin(self) -> None:
        """Give up what runs, and let new sequences come to their first token (mutates the engine)."""
        for generation in self.generations:
            self.engine.abort(generation)
        params = SamplingParams(temperature=0)
        self.generations = [
            self.engine.add(Request(tokens=self.prompts.draw(self.context - 1), params=params))
            for _ in range(self.batch)
        ]
        while any(len(generation.ids) < self.context for generation in self.generations):
            self.engine.step()


class Prompts:
    """Random tokens, never the same twice, so that no cache of prefixes knows them."""

    def __init__(self, model: Decoder, seed: int = 0) -> None:
        self.vocab_size = model.vocab_size
        self.random = random.Random(seed)

    def draw(self, length: int) -> list[int]:
        return [self.random.randrange(self.vocab_size) for _ in range(length)]


def _engine(model: Decoder, *, batch: int, length: int) -> Engine:
    """One whose cache has room for all, so that nobody waits. Raises ConfigError if the model has no such positions."""
    if length > model.max_positions:
        raise ConfigError(
            f"{length} tokens are more than the {model.max_positions} positions of this model. Ask for a shorter "
            "prompt or context."
        )
    wanted = batch * cache_bytes(model.cache_specs(), length, element_size=4)
    return Engine(
        model, max_requests=batch, tokens_per_step=PIECE + batch, cache_bytes=max(2**30, 2 * wanted)
    )
