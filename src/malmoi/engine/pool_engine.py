"""The loop around an encoder: texts of many callers are read together, and nothing is generated.

    PoolRequest -> the line -> one row of all that fit -> hidden -> read -> a vector, logits, states

It works as `Engine` does, and is less: a text is read in one step, since all of its tokens see each other, so nothing
is kept, cut into chunks or preempted. Read next: `async_engine.py`; `llm/text_encoder.py`, which puts text around it.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain, groupby

import torch
from jaxtyping import Float
from torch import Tensor

from malmoi.core.errors import ConfigError, RequestError
from malmoi.engine.ids import check_ids
from malmoi.engine.pool_request import Pooled, PoolRequest
from malmoi.engine.scheduler import PATIENCE
from malmoi.nn.context import Context
from malmoi.nn.embedding import Embedding
from malmoi.nn.stack import Model, Stack


class PoolEngine:
    """Reads for many requests at once: with an encoder, or with a decoder for its states.

    By priority, then first come, first served, as the scheduler has it, and nobody overtakes: a step takes the first in
    line, whole and end to end without padding, as many as there is room for.

    Args:
        model: an `Encoder` or a `Decoder`. It is used as it is, weights included; nothing is copied.
        tokens_per_step: the most tokens that the model sees at once. None: 1,024, or what the model's longest text has
            if that is more. Who comes while a step runs waits for its end, so more is not better for callers.

    A wrong request is refused when it comes in. One whose states or result turn out not to be finite ends alone, with
    the `finish_reason` "error"; neither disturbs the others. One thread at a time.

    Raises ConfigError for a model that reads something else than tokens.

    >>> engine = PoolEngine(malmoi.load_model(malmoi.default_model()))           # doctest: +SKIP
    >>> [vector] = engine.pool([PoolRequest(tokens=[5, 6, 7], read=mean_of_each)])  # doctest: +SKIP
    >>> vector.shape                                                             # doctest: +SKIP
    torch.Size([256])
    """

    def __init__(self, model: Model, *, tokens_per_step: int | None = None) -> None:
        if not isinstance(model, Stack) or not isinstance(model.embedding, Embedding):
            raise ConfigError(
                f"a model of the kind {type(model).__name__} is no stack that reads tokens. Give an encoder or a "
                "decoder; of an encoder-decoder, its `encoder`."
            )
        if tokens_per_step is None:
            tokens_per_step = max(1024, model.max_positions)
        if tokens_per_step < 1:
            raise ConfigError(f"{tokens_per_step=}, and a step needs room for a token. Give 1 or more.")
        self.model, self.tokens_per_step = model, tokens_per_step
        types = model.embedding.types
        self.vocab_size = model.embedding.tokens.num_embeddings
        self.num_types = 0 if types is None else types.num_embeddings
        self.waiting: list[Pooled] = []  # by rank
        self._num_steps = self._num_added = 0

    def step(self) -> None:
        """Answer the first in line, as many as there is room for.

        After an exception, Ctrl-C included, they are still there, and the next step begins with them.
        """
        self._num_steps += 1
        batch = self._first_in_line()
        for pooled, result in zip(batch, self._results(batch) if batch else (), strict=True):
            if result is None:
                pooled.finish("error", error=_NOT_FINITE)
            else:
                pooled.finish("done", result=result)
        del self.waiting[: len(batch)]

    def add(self, request: PoolRequest) -> Pooled:
        """Queue a request; what comes back has its result after one of the next steps.

        Raises RequestError if it could never be served: no ids, more than the model or a step has room for, an id
        outside the vocabulary, types that the model does not have.
        """
        self.check(request)
        return self.queue(request)

    def queue(self, request: PoolRequest) -> Pooled:
        """`add`, for a request that `check` has let in."""
        pooled = Pooled(request, rank=(self._num_steps + PATIENCE * request.priority, self._num_added))
        self._num_added += 1
        insort(self.waiting, pooled, key=_rank)
        return pooled

    def abort(self, pooled: Pooled) -> None:
        """Take a request out of the line; one that has ended stays as it is."""
        if pooled.finish_reason is None:
            del self.waiting[bisect_left(self.waiting, pooled.rank, key=_rank)]
            pooled.finish("abort")

    def pool(self, requests: Iterable[PoolRequest]) -> list[Tensor]:
        """The result of each request, in their order.

        Raises as `add` does, before anything has started, and RequestError as soon as one has an error: `add` and
        `step` keep what the others have.
        """
        requests = list(requests)
        for request in requests:
            self.check(request)
        everybody = [self.queue(request) for request in requests]
        try:
            return [self._finished(pooled).read_result() for pooled in everybody]
        finally:
            for pooled in everybody:
                self.abort(pooled)

    def check(self, request: PoolRequest) -> None:
        """Raise RequestError if `request` could never be served."""
        length = len(request.tokens)
        if length == 0:
            raise RequestError("there is nothing to read. Give at least one token.")
        for limit, what in (
            (self.model.max_positions, "the model"),
            (self.tokens_per_step, "a step (the engine's tokens_per_step)"),
        ):
            if length > limit:
                raise RequestError(
                    f"the request has {length} tokens, but {what} has room for {limit}. Shorten it or cut it into "
                    "several."
                )
        if type(request.priority) is not int:
            raise RequestError(
                f"priority={request.priority!r} is no whole number. Give one; lower goes first."
            )
        check_ids("the request", request.tokens, vocab_size=self.vocab_size)
        self._check_types(request)

    def _check_types(self, request: PoolRequest) -> None:
        types = request.token_types
        if types is None:
            return
        if len(types) != len(request.tokens):
            raise RequestError(
                f"the request has {len(request.tokens)} tokens, but {len(types)} token_types. Give one for each."
            )
        for kind in types:
            if type(kind) is not int or not 0 <= kind < self.num_types:
                raise RequestError(
                    f"token_types has {kind!r}, and this model knows {self.num_types} types, counted from 0. Leave "
                    "token_types out, or check that tokenizer and model belong together."
                )

    def _finished(self, pooled: Pooled) -> Pooled:
        while pooled.finish_reason is None:
            self.step()
        return pooled

    def _first_in_line(self) -> list[Pooled]:
        room = self.tokens_per_step
        for count, pooled in enumerate(self.waiting):
            room -= len(pooled.request.tokens)
            if room < 0:
                return self.waiting[:count]
        return list(self.waiting)

    @torch.inference_mode()
    def _results(self, batch: Sequence[Pooled]) -> list[Tensor | None]:
        """What each request's `read` makes of its states; None where one of the two is not finite."""
        hidden = self._hidden(batch)
        lengths = [len(pooled.request.tokens) for pooled in batch]
        reads = [pooled.request.read for pooled in batch]
        rows = zip(reads, _are_finite(torch.split(hidden[0], lengths)), lengths, strict=True)
        results: list[Tensor | None] = []
        end = 0
        for (read, is_finite), run in groupby(rows, key=lambda row: row[:2]):
            sizes = [size for _, _, size in run]
            start, end = end, end + sum(sizes)
            if not is_finite:
                results += [None] * len(sizes)
                continue
            found = list(read(hidden[:, start:end], sizes))
            assert len(found) == len(sizes), "`read` has one result for each request"
            results += [x if ok else None for x, ok in zip(found, _are_finite(found), strict=True)]
        return results

    def _hidden(self, batch: Sequence[Pooled]) -> Float[Tensor, "1 T D"]:
        requests, device = [pooled.request for pooled in batch], self.model.device
        context = Context.packed(
            [len(request.tokens) for request in requests], specs=self.model.cache_specs(), device=device
        )
        if any(request.token_types for request in requests):
            types = chain.from_iterable(r.token_types or [0] * len(r.tokens) for r in requests)
            context = replace(context, token_types=torch.tensor([list(types)], device=device))
        tokens = list(chain.from_iterable(request.tokens for request in requests))
        return self.model.hidden(torch.tensor([tokens], device=device), context)


_NOT_FINITE = (
    "what the model made of this request is not finite. Its weights are damaged, its training diverged, or its "
    "precision is too low for it: try dtype=torch.float32."
)


def _rank(pooled: Pooled) -> tuple[int, int]:
    return pooled.rank


def _are_finite(tensors: Sequence[Tensor]) -> list[bool]:
    """Of each, whether all of its numbers are."""
    if torch.cat([tensor.flatten() for tensor in tensors]).isfinite().all():
        return [True] * len(tensors)
    return [bool(tensor.isfinite().all()) for tensor in tensors]
