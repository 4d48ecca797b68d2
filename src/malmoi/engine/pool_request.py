"""What is asked of a `PoolEngine`, and what came of it: `PoolRequest` and `Pooled`.

A generation goes on for many steps; these are read whole, in one, and what they get is a tensor: a vector, the logits
of a label, a state a token. Read next: `pool_engine.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from malmoi.core.errors import RequestError

Read = Callable[[Tensor, Sequence[int]], Sequence[Tensor] | Tensor]
"""From the states (1, T, D) of requests end to end, and their lengths, to one result a request."""
PoolReason = Literal["done", "abort", "error"]
"""Why it has ended: it has its result; the caller gave up; what was computed is not finite."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PoolRequest:
    """Ids to read, kept as tuples, and what to make of their states.

    `read` is asked once for neighbours that have an equal one, so give those that want the same the same function; it
    runs in inference mode. `token_types` say of which part an id is, where the model asks (BERT); None: all of the
    first. A lower `priority` goes first, as in `Request`.
    """

    tokens: Sequence[int]
    read: Read
    token_types: Sequence[int] | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(self.tokens))
        if self.token_types is not None:
            object.__setattr__(self, "token_types", tuple(self.token_types))


class Pooled:
    """One pool request on its way. Read it; only the engine changes it.

    Attributes:
        request: what was asked.
        rank: who goes first: the lower.
        result: what `read` made of its states; None until then, and where there is none.
        finish_reason: None while it waits.
        error: why there is no result, where that is what ended it.
    """

    def __init__(self, request: PoolRequest, *, rank: tuple[int, int]) -> None:
        self.request, self.rank = request, rank
        self.result: Tensor | None = None
        self.finish_reason: PoolReason | None = None
        self.error: str | None = None

    def finish(self, reason: PoolReason, *, result: Tensor | None = None, error: str | None = None) -> None:
        """Note how it has ended (mutates: the engine's business)."""
        self.result, self.error, self.finish_reason = result, error, reason

    def read_result(self) -> Tensor:
        """Its result, now that it has come to its end. Raises RequestError if it has none."""
        if self.result is None:
            raise RequestError(self.error or "the request was given up before it was read. Ask again.")
        return self.result
