"""The loop around a model: requests go in at any time, every step serves all of them.

    Request -> Scheduler {generation: count} -> Runner (tokens, Context) -> hidden -> head -> sampling -> ids

Read next: `malmoi/llm/`, which puts text around it.
"""

import time
from collections.abc import Generator, Iterable, Sequence
from typing import Any

from malmoi.budget import weight_bytes
from malmoi.core.errors import ConfigError, RequestError
from malmoi.core.memory import keep_freed_memory
from malmoi.engine.groups import Group, Kind, num_blocks_held
from malmoi.engine.ids import check_ids
from malmoi.engine.params import SamplingParams
from malmoi.engine.request import Choice, Generation, Request
from malmoi.engine.runner import Runner
from malmoi.engine.scheduler import PIECE, Scheduler
from malmoi.engine.speculate import DraftCounts, Drafter, PromptLookup, Trial
from malmoi.nn.cache import CacheSpec, KeyValueSpec, PagedCache
from malmoi.nn.int8_cache import Int8PagedCache
from malmoi.nn.multimodal import Multimodal
from malmoi.nn.stack import Decoder, EncoderDecoder

_PAGED_CACHES: dict[str | None, type[PagedCache]] = {None: PagedCache, "int8": Int8PagedCache}


class Engine:
    """Generates for many requests at once, with any model that has `hidden`, `head` and `cache_specs`.

    An encoder-decoder reads the `source` of a request in its first step, and then goes on from its tokens. Layers with
    a window keep no more than that of a sequence, however long it grows.

    What was computed of a prompt or an answer is used again where another request begins with the same tokens and
    images.

    Args:
        model: used as it is, weights included; nothing is copied.
        max_requests: how many requests run at a time; more wait in line.
        tokens_per_step: the most tokens that the model sees at once, sources, prompts and decoding together. None:
            512, or more where the longest source, which is read whole, beside a token of every request takes more.
        block_size: tokens a cache block.
        cache_bytes: the most memory that the cache takes; less if `max_requests` full contexts need less. Recurrent
            states, one a running request, take their part first; the rest is shared by tokens and sources.
        prefix_caching: whether to use again what was computed of common beginnings. Recurrent models, whose states
            have no beginnings, and encoder-decoders do without.
        cache_dtype: "int8" keeps keys and values in 8 bits, in half the memory of bf16 and not quite as exactly; None:
            in the precision of the activations.
        speculation: who guesses what comes next: `PromptLookup()`, `DraftModel(...)`, or None. Answers stay what they
            are, and come faster where guesses are right. "auto" looks up the prompt as long as that is faster, by the
            clock; `drafts` counts.
        batch_invariant: whether logits are the same to the last bit whatever else runs, how much a step has room for,
            and who gave way to whom, on the CPU with the same number of threads. Then each request is computed by
            itself, prompts in fixed pieces, and what was computed for one is not used again for another: for tests and
            evaluations, not for throughput.
        keeps_freed_memory: long prompts are faster, and the whole process gives back less of what it frees, from here
            on (`core.memory`).

    A wrong request is refused when it comes in. One whose logits turn out not to be finite ends alone, with the
    `finish_reason` "error"; neither disturbs the others. One thread at a time.

    Raises ConfigError for limits that do not fit each other, for an encoder that reads something else than tokens, and
    for speculation with a model whose states cannot take a token back, or with another vocabulary, and for
    `batch_invariant` with speculation, an encoder, or steps that have no room for a piece of a prompt.

    >>> engine = Engine(malmoi.load_model(malmoi.default_model()))           # doctest: +SKIP
    >>> [answer] = engine.generate([[5, 6, 7]], SamplingParams(max_tokens=4))  # doctest: +SKIP
    >>> answer.tokens, answer.finish_reason                                  # doctest: +SKIP
    ([311, 9, 4021, 88], 'length')
    """

    def __init__(
        self,
        model: Decoder | EncoderDecoder,
        *,
        max_requests: int = 16,
        tokens_per_step: int | None = None,
        block_size: int = 16,
        cache_bytes: int = 2**30,
        prefix_caching: bool = True,
        cache_dtype: str | None = None,
        speculation: Drafter | str | None = None,
        batch_invariant: bool = False,
        keeps_freed_memory: bool = False,
    ) -> None:
        if isinstance(model, EncoderDecoder) and not model.has_token_source:
            raise ConfigError(
                f"a model of the kind {type(model).__name__} reads no tokens, and an engine has nothing else to give "
                "it. For one that reads sound, use `malmoi transcribe`, or Transcriber."
            )
        source_length = model.encoder.max_positions if isinstance(model, EncoderDecoder) else 0
        if tokens_per_step is None:
            tokens_per_step = max(512, max_requests + source_length)
        if not 1 <= max_requests <= tokens_per_step or block_size < 1:
            raise ConfigError(
                f"{max_requests=}, {tokens_per_step=}, {block_size=} do not fit: each is 1 or more, and a step must "
                "have room for a token of every request. Raise tokens_per_step or lower max_requests."
            )
        if batch_invariant:
            if speculation is not None or source_length:
                raise ConfigError(
                    "batch_invariant=True goes with neither speculation nor an encoder: both show the model more at a "
                    "time than the next id. Leave one out."
                )
            if tokens_per_step < PIECE + max_requests - 1:
                raise ConfigError(
                    f"batch_invariant=True shows prompts in pieces of {PIECE} tokens, and {tokens_per_step=} has no "
                    f"room for one beside {max_requests - 1} others. Give {PIECE + max_requests - 1} or more."
                )
        if keeps_freed_memory:
            keep_freed_memory()
        self.model = model
        if cache_dtype not in _PAGED_CACHES:
            raise ConfigError(
                f"{cache_dtype=} is unknown. Use 'int8', or None for the precision of the activations."
            )
        paged_cache = _PAGED_CACHES[cache_dtype]
        specs, element_size = model.cache_specs(), (model.compute_dtype or model.dtype).itemsize
        groups = _groups(
            specs,
            paged_cache,
            element_size=element_size,
            lengths=(model.max_positions, source_length),
            cache_bytes=cache_bytes,
            max_requests=max_requests,
            block_size=block_size,
            tokens_per_step=tokens_per_step,
        )
        self.scheduler = Scheduler(
            groups=groups,
            tokens_per_step=tokens_per_step,
            max_requests=max_requests,
            context_length=model.max_positions,
            source_length=source_length,
            has_prefix_cache=prefix_caching
            and not batch_invariant
            and all(spec.is_shareable for spec in specs),
            has_fixed_pieces=batch_invariant,
        )
        self.drafter = _drafter(speculation, model)
        self.trial = Trial() if speculation == "auto" else None
        self.runner = Runner(
            model,
            groups=groups,
            num_state_slots=max_requests,
            paged_cache=paged_cache,
            is_batched=not batch_invariant,
        )

    def step(self) -> None:
        """Advance every running generation; each that has seen all of its ids gets a token.

        After an exception, Ctrl-C included, the next step begins with everything that was running computed anew.
        """
        begin, num_accepted = time.perf_counter(), self.drafts.num_accepted
        try:
            plan = self.scheduler.schedule()
            if self.drafter is not None and (self.trial is None or self.trial.is_on):
                self.scheduler.draft(plan, self.drafter)
            trial = self.trial if self.trial is not None and plan.is_decoding else None
            self.scheduler.update(plan, *self.runner.run(plan))
        except BaseException:
            self.scheduler.preempt_all()  # recurrent states may have seen tokens that nobody has counted
            raise
        if trial is not None:
            num_tokens = len(plan.counts) + self.drafts.num_accepted - num_accepted
            trial.note(time.perf_counter() - begin, num_tokens)

    @property
    def num_bytes(self) -> int:
        """Memory of the weights and of the cache, used or not, and of a model that guesses; a step takes more."""
        of_cache = sum(pool.num_bytes for pool in self.runner.pools)
        return weight_bytes(self.model) + of_cache + (0 if self.drafter is None else self.drafter.num_bytes)

    @property
    def drafts(self) -> DraftCounts:
        """How many tokens were guessed so far, and how many rightly."""
        return self.scheduler.drafts

    def add(self, request: Request) -> Generation:
        """Queue a request; the generation that comes back fills up with each `step`.

        Raises RequestError if it could never be served: an empty prompt, one that leaves no room in the context
        or in the cache, an id outside the vocabulary, an attachment that has no places or that the model cannot take, a
        source that the encoder has no room for, a logit_bias that forbids every token.
        """
        self.check(request)
        return self.queue(request)

    def queue(self, request: Request) -> Generation:
        """`add`, for a request that `check` has let in."""
        return self.scheduler.add(request)

    def abort(self, generation: Generation) -> None:
        """End a generation and free its blocks; one that has ended stays as it is."""
        self.scheduler.abort(generation)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        stop_ids: Iterable[int] = (),
        sources: Sequence[Sequence[int]] | None = None,
    ) -> list[Generation]:
        """Go on from each prompt, all at once; `params` are for all or one a prompt.

        One generation for each prompt comes back; with `SamplingParams.n`, it has the others as its `siblings`.

        For an encoder-decoder, `sources` are what it reads, one a prompt. Raises as `add` does, before anything has
        started, and RequestError as soon as one has an error: `add` and `step` keep what the others have.
        """
        requests = self._requests(prompts, params, stop_ids, sources)
        for request in requests:
            self.check(request)
        generations = [self.queue(request) for request in requests]
        everybody = [one for generation in generations for one in (generation, *generation.siblings)]
        try:
            while any(generation.finish_reason is None for generation in everybody):
                self.step()
                for generation in everybody:
                    generation.raise_if_failed()
        finally:
            for generation in everybody:
                self.abort(generation)
        return generations

    def stream(
        self,
        prompt: Sequence[int],
        params: SamplingParams | None = None,
        *,
        stop_ids: Iterable[int] = (),
        source: Sequence[int] | None = None,
    ) -> Generator[Choice, None, None]:
        """Yield each token as soon as it is chosen; closing the generator aborts.

        Raises as `add` does, at once, and RequestError behind the last token if no other could be chosen.
        """
        [request] = self._requests([prompt], params, stop_ids, None if source is None else [source])
        self.check(request)
        if request.params.n > 1:
            raise RequestError(
                f"n={request.params.n}, and a stream gives one answer. Use `add` and `step`, or n=1."
            )
        return self._follow(request)

    def refresh(self) -> None:
        """Call after changing weights or modules: what is cached or recorded is of the old ones, and made anew.

        The features of attachments are the caller's, and stay what the old weights made of an image or a sound.
        """
        self.scheduler.forget()
        self.runner.replay.forget()

    def check(self, request: Request) -> None:
        """Raise RequestError if `request` could never be served."""
        vocab_size = self.model.vocab_size
        for where, ids in (
            ("the prompt", request.tokens),
            ("the source", request.source or ()),
            ("logit_bias", request.params.logit_bias),
            ("stop_ids", request.stop_ids if request.params.min_tokens else ()),
        ):
            check_ids(where, ids, vocab_size=vocab_size)
        forbidden = [token for token, bias in request.params.logit_bias.items() if bias == -100]
        if len(forbidden) == vocab_size:
            raise RequestError(
                f"logit_bias forbids all {vocab_size} tokens of the vocabulary. Leave one to choose."
            )
        if name := request.params.text_asked():
            raise RequestError(
                f"{name}={getattr(request.params, name)!r} is about text, and the engine knows only ids. Give stop_ids "
                "or a rule, or use LLM."
            )
        self._check_features(request)
        self.scheduler.admission.check(request)

    def _check_features(self, request: Request) -> None:
        if not request.attachments:
            return
        if not isinstance(self.model, Multimodal):
            raise RequestError(
                f"the request has attachments, and a model of the kind {type(self.model).__name__} takes tokens alone. "
                "Leave them out, or load a model that sees or hears."
            )
        table: Any = self.model.embedding.tokens
        width = table.embedding_dim
        for features in (attachment.features for attachment in request.attachments):
            if features.ndim != 2 or features.shape[1] != width or not features.is_floating_point():
                raise RequestError(
                    f"the features of an attachment have the shape {tuple(features.shape)} and the type "
                    f"{features.dtype}, but this model takes rows of {width} floating-point numbers. Make them with "
                    "its `encode`."
                )
            if not features.float().isfinite().all():
                raise RequestError(
                    "the features of an attachment are not finite numbers. Check what they were made of, and the "
                    "encoder's weights."
                )

    def _follow(self, request: Request) -> Generator[Choice, None, None]:
        generation = self.queue(request)
        num_given = 0
        try:
            while True:
                while num_given == len(generation.choices):
                    if generation.finish_reason is not None:
                        generation.raise_if_failed()
                        return
                    self.step()
                yield generation.choices[num_given]
                num_given += 1
        finally:
            self.abort(generation)

    def _requests(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams] | None,
        stop_ids: Iterable[int],
        sources: Sequence[Sequence[int]] | None,
    ) -> list[Request]:
        if params is None or isinstance(params, SamplingParams):
            params = [params or SamplingParams()] * len(prompts)
        if len(params) != len(prompts):
            raise RequestError(
                f"{len(prompts)} prompts, but {len(params)} params. Give one for all, or one each."
            )
        if sources is not None and len(sources) != len(prompts):
            raise RequestError(f"{len(prompts)} prompts, but {len(sources)} sources. Give one for each.")
        each_source: Sequence[Sequence[int] | None] = sources or [None] * len(prompts)
        stops = frozenset(stop_ids)
        return [
            Request(tokens=prompt, source=source, params=p, stop_ids=stops)
            for prompt, source, p in zip(prompts, each_source, params, strict=True)
        ]


def _drafter(speculation: Drafter | str | None, model: Decoder | EncoderDecoder) -> Drafter | None:
    """Who guesses; for "auto" in the beginning."""
    if speculation is None:
        return None
    drafter = PromptLookup() if speculation == "auto" else speculation
    if isinstance(drafter, str):
        raise ConfigError(
            f"{speculation=} guesses nothing. Give PromptLookup(), DraftModel(...), 'auto', or None."
        )
    if not all(isinstance(spec, KeyValueSpec) for spec in model.cache_specs()):
        raise ConfigError(
            f"a model of the kind {type(model).__name__} with recurrent states cannot take back a token that was "
            "guessed wrongly. Leave speculation out."
        )
    if drafter.vocab_size not in (None, model.vocab_size):
        raise ConfigError(
            f"the model that guesses has a vocabulary of {drafter.vocab_size}, and this model one of "
            f"{model.vocab_size}. Take a smaller model with the same tokenizer."
        )
    return drafter


def _groups(
    specs: Sequence[CacheSpec],
    paged_cache: type[PagedCache],
    *,
    element_size: int,
    lengths: tuple[int, int],
    cache_bytes: int,
    max_requests: int,
    block_size: int,
    tokens_per_step: int,
) -> list[Group]:
    """The groups of the layers that keep tokens, with as many blocks as fit beside the recurrent states.

    No more than `max_requests` sequences (and sources) of the `lengths` hold at a time; if that does not fit, all give
    way in proportion, and each keeps a block.
    """
    bytes_of: dict[Kind, int] = {}  # of a block
    for spec in specs:
        if isinstance(spec, KeyValueSpec):
            kind = (spec.window, spec.is_of_source)
            bytes_of[kind] = bytes_of.get(kind, 0) + block_size * paged_cache.bytes_per_token(
                spec, element_size
            )
    state_bytes = max_requests * sum(spec.bytes_per_sequence(element_size) for spec in specs)
    least = state_bytes + sum(bytes_of.values())
    if least > cache_bytes:
        raise ConfigError(
            f"{cache_bytes=} is less than {least}: what a block of {block_size} tokens in each group of layers, and "
            f"the recurrent states of {max_requests} requests take. Give more, or lower max_requests."
        )
    wanted = {
        (window, is_of_source): max_requests
        * num_blocks_held(
            lengths[is_of_source], block_size=block_size, window=window, tokens_per_step=tokens_per_step
        )
        for window, is_of_source in bytes_of
    }
    spare = cache_bytes - least
    wanted_spare = sum((wanted[kind] - 1) * bytes_of[kind] for kind in wanted)
    return [
        Group(
            num_blocks=1 + (wanted[kind] - 1) * min(spare, wanted_spare) // max(wanted_spare, 1),
            block_size=block_size,
            tokens_per_step=tokens_per_step,
            window=kind[0],
            is_of_source=kind[1],
        )
        for kind in wanted
    ]
