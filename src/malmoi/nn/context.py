"""What a forward pass knows besides its tokens: where each one stands, and where its keys are stored.

`Context` is an argument, never a global. Its constructors are the two shapes of a batch:

    Context.rows, Context.dense   (B, T)   rows of equal length, for `model(tokens)`
    Context.packed                (1, T)   sequences of any length end to end, for the engine and for training

Read next: `cache` (what `caches` holds), `attention` (who reads it), `padding` (rows of several lengths).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from malmoi.core.errors import RequestError
from malmoi.nn.cache import CacheSpec, LayerCache
from malmoi.nn.rope import Rotation
from malmoi.nn.splice import Splice
from malmoi.nn.state import LayerStates
from malmoi.nn.transfer import send


@dataclass(frozen=True, kw_only=True)
class Context:
    """The places of a step's tokens, and one cache a layer to store their keys in.

    Attributes:
        positions: counted from 0 within a sequence.
        sequence_lengths: for each token, how long its sequence is after this step (rotary scalings that depend
            on the length read it).
        caches: one a caching layer, in the order in which the stack runs them.
        source: the encoder's states of the positions that cross-attention has not stored yet; after the first step
            none are left, and its length is 0.
        token_types: which of its parts a token belongs to, question or answer, where the embedding asks (BERT).
        splice: what stands in the place of some tokens' embeddings: an image's or a sound's features.
        router_logits: a list that each router's scores are appended to, where somebody wants them.
        rotations: filled once a forward by the stack, so that layers share the cosines.

    A step of the engine is packed too, with its own caches: `Context(positions=..., sequence_lengths=...,
    caches=[pool.at(step) for pool in pools])`. One sequence decodes its 6th token, another prefills 3:

    >>> from malmoi.nn.rope import Rope, RopeConfig
    >>> positions, lengths = torch.tensor([[5, 0, 1, 2]]), torch.tensor([[6, 3, 3, 3]])
    >>> context = Context(positions=positions, sequence_lengths=lengths, caches=[])
    >>> rope = Rope(RopeConfig(), head_dim=4)           # two pairs, of which the slow one turns by 0.01 a position
    >>> context.rotated(nn.ModuleDict({"default": rope})).rotations["default"].sin[0, :, 0, 1]
    tensor([0.0500, 0.0000, 0.0100, 0.0200])
    """

    positions: Int[Tensor, "B T"]
    sequence_lengths: Int[Tensor, "B T"]
    caches: Sequence[LayerCache | LayerStates]
    source: Float[Tensor, "B S D"] | None = None
    token_types: Int[Tensor, "B T"] | None = None
    splice: Splice | None = None
    router_logits: list[Tensor] | None = None
    rotations: Mapping[str, Rotation] = field(default_factory=dict)

    @classmethod
    def rows(
        cls,
        num_rows: int,
        length: int,
        *,
        specs: Sequence[CacheSpec],
        device: torch.device | str = "cpu",
        caches: Sequence[LayerCache | LayerStates] | None = None,
        num_cached: int = 0,
        source: Float[Tensor, "B S D"] | None = None,
    ) -> "Context":
        """`num_rows` sequences of `length` new tokens; `num_cached` earlier ones of each are already in `caches`.

        Raises RequestError if that is no token at all.

        >>> Context.rows(1, 3, specs=[]).positions
        tensor([[0, 1, 2]])
        """
        assert caches is not None or num_cached == 0, "num_cached positions, but no cache that holds them"
        _require_tokens(num_rows * length, f"{num_rows} rows of {length} tokens")
        end = num_cached + length
        positions = torch.arange(num_cached, end, device=device).expand(num_rows, -1)
        return cls(
            positions=positions,
            sequence_lengths=torch.full_like(positions, end),
            caches=caches if caches is not None else [spec.layout() for spec in specs],
            source=source,
        )

    @classmethod
    def dense(
        cls,
        tokens: Shaped[Tensor, "B T"],
        *,
        specs: Sequence[CacheSpec],
        caches: Sequence[LayerCache | LayerStates] | None = None,
        num_cached: int = 0,
        source: Float[Tensor, "B S D"] | None = None,
    ) -> "Context":
        """`rows`, as many and as long as `tokens` has.

        The next token of a loop: `Context.dense(tokens, specs=specs, caches=caches, num_cached=3)`, with `caches =
        model.new_caches()` that the first three went through, has the position 3.
        """
        return cls.rows(
            *tokens.shape,
            specs=specs,
            device=tokens.device,
            caches=caches,
            num_cached=num_cached,
            source=source,
        )

    @classmethod
    def packed(
        cls,
        lengths: Sequence[int],
        *,
        specs: Sequence[CacheSpec],
        device: torch.device | str = "cpu",
        source: Float[Tensor, "1 S D"] | None = None,
        source_lengths: Sequence[int] | None = None,
    ) -> "Context":
        """Whole sequences of `lengths` tokens end to end, none cached: what packed training passes.

        With `source`, the encoder's states of as many sequences end to end, of `source_lengths`. Raises RequestError if
        there is no token at all.

        >>> Context.packed([3, 2], specs=[]).positions
        tensor([[0, 1, 2, 0, 1]])
        """
        _require_tokens(sum(lengths), f"{len(lengths)} sequences without a token")
        assert (source is None) == (source_lengths is None), (
            "the states of sources, and how long each source is"
        )
        if source is not None and source_lengths is not None:
            assert len(source_lengths) == len(lengths), "every sequence has a source"
            assert sum(source_lengths) == source.shape[1], "the sources lie end to end"
        sizes = torch.tensor(lengths, dtype=torch.long)
        offsets = offsets_of(lengths)
        source_offsets = None if source_lengths is None else offsets_of(source_lengths)
        starts = torch.repeat_interleave(offsets[:-1], sizes)
        positions = (torch.arange(int(offsets[-1])) - starts)[None]
        # One layout for all layers of a kind: the compiler then sees one tensor of offsets, not one a layer.
        layouts = {spec: spec.packed_layout(offsets, source_offsets) for spec in specs}
        return cls(
            positions=send(positions, device),
            sequence_lengths=send(torch.repeat_interleave(sizes, sizes)[None], device),
            caches=[layouts[spec] for spec in specs],
            source=source,
        )

    def rotated(self, ropes: nn.ModuleDict) -> "Context":
        """The same context with what each `Rope` of `ropes`, by name, says for its positions."""
        return replace(
            self,
            rotations={name: rope(self.positions, self.sequence_lengths) for name, rope in ropes.items()},
        )


def _require_tokens(number: int, found: str) -> None:
    if not number:
        raise RequestError(f"there is nothing to compute: {found}. Give a token or more.")


def offsets_of(lengths: Sequence[int]) -> Int[Tensor, " offsets"]:
    """Where each of several sequences begins, and where the last one ends.

    >>> offsets_of([3, 2])
    tensor([0, 3, 5])
    """
    sizes = torch.tensor(lengths, dtype=torch.long)
    return torch.cat([torch.zeros(1, dtype=torch.long), sizes.cumsum(0)])
