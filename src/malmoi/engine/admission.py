"""Which requests could ever be served: what does not fit is refused when it comes in, with the sizes.

    Engine.check (ids, features: what the model takes) -> ADMISSION (lengths, places: what fits) -> Scheduler.add

Whoever is let in ends, however long it waits; whether it runs now is another question. Read next: `scheduler.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from malmoi.core.errors import RequestError
from malmoi.engine.groups import Group
from malmoi.engine.request import Attachment, Request


@dataclass(frozen=True, kw_only=True)
class Admission:
    """The limits of an engine, and the requests that they let in.

    Attributes:
        groups: of layers, with the blocks that they have.
        tokens_per_step: the most tokens that the model sees at once.
        max_requests: how many generations run at a time.
        context_length: the most tokens of a sequence.
        source_length: the longest that the encoder takes; 0: there is no encoder.

    >>> group = Group(num_blocks=8, block_size=4, tokens_per_step=6)
    >>> admission = Admission(groups=(group,), tokens_per_step=6, max_requests=4, context_length=64)
    >>> admission.length_limit(), admission.length_limit(num_beams=3)       # of 8 blocks, 2 for each of 3 beams
    (32, 8)
    """

    groups: tuple[Group, ...]
    tokens_per_step: int
    max_requests: int
    context_length: int
    source_length: int = 0

    def length_limit(self, *, num_beams: int = 1) -> int:
        """How long a sequence may become, prompt and answer together, so that as many as `num_beams` fit at a time."""
        rooms = (
            g.room_for(self.context_length, num_sequences=num_beams)
            for g in self.groups
            if not g.is_of_source
        )
        return min([self.context_length, *rooms])

    def check(self, request: Request) -> None:
        """Raise RequestError if `request` could never be served."""
        num_beams, num_tokens = request.params.beam_width, len(request.tokens)
        if num_tokens == 0:
            raise RequestError("the prompt is empty. Give at least one token.")
        if num_beams > self.max_requests:
            raise RequestError(
                f"beam_width={num_beams} is more than run at a time: the engine's max_requests is "
                f"{self.max_requests}. Lower the former, or raise the latter."
            )
        for limit, what in (
            (self.context_length, "the model's context"),
            (self.length_limit(num_beams=num_beams), _cache_for(num_beams)),
        ):
            if num_tokens >= limit:
                raise RequestError(
                    f"the prompt has {num_tokens} tokens, but {what} has room for {limit}, the answer included. "
                    f"Shorten the prompt to {limit - 1} tokens or fewer."
                )
        if type(request.priority) is not int:
            raise RequestError(
                f"priority={request.priority!r} is no whole number. Give one; lower goes first."
            )
        _check_attachments(request.attachments, num_tokens)
        self._check_source(request.source, num_beams)

    def _check_source(self, source: Sequence[int] | None, num_beams: int) -> None:
        if not self.source_length:
            if source is not None:
                raise RequestError("this model has no encoder to read a source. Put it into the prompt.")
            return
        if not source:
            raise RequestError(
                "this model's encoder has nothing to read. Give a source of at least one token."
            )
        for limit, what in (
            (self.source_length, "the model's encoder"),
            *(
                (g.room_for(len(source), num_sequences=num_beams), _cache_for(num_beams))
                for g in self.groups
                if g.is_of_source
            ),
            (self.tokens_per_step - self.max_requests, "a step (the engine's tokens_per_step)"),
        ):
            if len(source) > limit:
                raise RequestError(
                    f"the source has {len(source)} tokens, but {what} has room for {limit}. Shorten it."
                )


def _cache_for(num_beams: int) -> str:
    each = f", of which each of {num_beams} beams has its part," if num_beams > 1 else ""
    return f"the cache (the engine's cache_bytes){each}"


def _check_attachments(attachments: Sequence[Attachment], num_tokens: int) -> None:
    free_from = 0
    for attachment in attachments:
        if type(attachment.start) is not int:
            raise RequestError(
                f"an attachment starts at {attachment.start!r}. Give the number of a token, an int."
            )
        if not free_from <= attachment.start < attachment.end <= num_tokens:
            raise RequestError(
                f"an attachment is to stand at the tokens {attachment.start} to {attachment.end - 1}, but there are "
                f"{num_tokens} tokens, and those before {free_from} are taken. Give attachments in order, "
                "each as many features as it has places."
            )
        free_from = attachment.end
