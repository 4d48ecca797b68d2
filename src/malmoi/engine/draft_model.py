"""A smaller model that guesses what the larger one says: `DraftModel`.

It runs in an engine of its own, as a twin of each request that decodes, and finds in its cache what it computed for the
guess before. Place in the flow: the scheduler asks it once a step. Read next: `speculate.py`, why this is exact.
"""

from collections.abc import Mapping

from malmoi.core.errors import ConfigError
from malmoi.engine.engine import Engine
from malmoi.engine.request import Generation
from malmoi.engine.speculate import Drafter
from malmoi.nn.stack import Decoder


class DraftModel(Drafter):
    """Guesses by `num_tokens` steps of `model`, under the request's own parameters and by its own random numbers.

    Two models that draw by the same number from distributions that are alike mostly draw the same token, so it is
    right often at any temperature. It sees tokens alone: what was attached to a request only the larger model knows.
    Beside its weights it takes `cache_bytes`, and up to `max_requests` are guessed for at a time.

    Raises ConfigError if the model keeps states instead of tokens, and `Engine` does if the vocabularies differ.

    >>> engine = Engine(large, speculation=DraftModel(small))                 # doctest: +SKIP
    """

    def __init__(
        self, model: Decoder, *, num_tokens: int = 4, cache_bytes: int = 2**28, max_requests: int = 16
    ) -> None:
        if num_tokens < 1:
            raise ConfigError(f"{num_tokens=} is less than 1. Give None for no speculation.")
        self._engine = Engine(model, cache_bytes=cache_bytes, max_requests=max_requests)
        if not self._engine.scheduler.holdings.has_prefix_cache:
            raise ConfigError(
                f"a model of the kind {type(model).__name__} with states or a source would have to read everything "
                "again for every guess. Use a decoder whose layers are all attention, or PromptLookup()."
            )
        self.num_tokens, self.vocab_size = num_tokens, model.vocab_size

    @property
    def num_bytes(self) -> int:
        return self._engine.num_bytes

    def propose(self, limits: Mapping[Generation, int]) -> dict[Generation, list[int]]:
        scheduler, twins = self._engine.scheduler, {}
        for generation, limit in limits.items():
            room = scheduler.length_limit - len(generation.ids)
            if room > 0:
                twins[generation] = generation.twin(min(self.num_tokens, limit, room))
                scheduler.adopt(twins[generation])
        try:
            while any(twin.finish_reason is None for twin in twins.values()):
                self._engine.step()
        finally:
            for twin in twins.values():
                self._engine.abort(twin)
        return {generation: twin.ids[len(generation.ids) :] for generation, twin in twins.items()}
