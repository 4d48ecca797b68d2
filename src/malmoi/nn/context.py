"""What a forward pass knows besides its tokens: where each one stands, and where its keys are stored.

`Context` is an argument, never a global. Its two constructors are the two shapes of a batch:

    Context.dense   (B, T)   rows of equal length, for `model(tokens)`
    Context.packed  (1, T)   sequences of any length end to end, for the engine and for training

Read next: `cache` (what `caches` holds), `attention` (who reads it).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Int
from torch import Tensor, nn

from malmoi.nn.cache import DenseLayout, LayerCache, PackedLayout
from malmoi.nn.rope import Rotation


@dataclass(frozen=True, kw_only=True)
class Context:
    """The places of a step's tokens, and one cache a layer to store their keys in.

    `positions` counts from 0 within a sequence; `sequence_lengths` is, for each token, how long its
    sequence is after this step (rotary scalings that depend on the length read it). `caches` has one entry a
    layer. `rotations` is filled once a forward by the stack, so that layers share the cosines.

    A step of the engine is packed too, with its own caches: `Context(positions=..., sequence_lengths=...,
    caches=[pool.at(step) for pool in pools])`.
    """

    positions: Int[Tensor, "B T"]
    sequence_lengths: Int[Tensor, "B T"]
    caches: Sequence[LayerCache]
    rotations: Mapping[str, Rotation] = field(default_factory=dict)

    @classmethod
    def dense(
        cls,
        tokens: Int[Tensor, "B T"],
        *,
        num_layers: int,
        caches: Sequence[LayerCache] | None = None,
        num_cached: int = 0,
    ) -> "Context":
        """Rows of one length; `num_cached` earlier positions of each row are already in `caches`.

        >>> Context.dense(torch.tensor([[7, 8, 9]]), num_layers=1).positions
        tensor([[0, 1, 2]])

        The next token of a loop: `Context.dense(tokens, num_layers=n, caches=caches, num_cached=3)`, with `caches`
        the list of `DenseCache` that the first three went through, has the position 3.
        """
        assert caches is not None or num_cached == 0, "num_cached positions, but no cache that holds them"
        length = num_cached + tokens.shape[1]
        positions = torch.arange(num_cached, length, device=tokens.device).expand_as(tokens)
        return cls(
            positions=positions,
            sequence_lengths=torch.full_like(positions, length),
            caches=caches if caches is not None else [DenseLayout()] * num_layers,
        )

    @classmethod
    def packed(
        cls, lengths: Sequence[int], *, num_layers: int, device: torch.device | str = "cpu"
    ) -> "Context":
        """Whole sequences of `lengths` tokens end to end, none cached: what packed training passes.

        >>> Context.packed([3, 2], num_layers=1).positions
        tensor([[0, 1, 2, 0, 1]])
        """
        sizes = torch.tensor(lengths, dtype=torch.long)
        offsets = torch.cat([torch.zeros(1, dtype=sizes.dtype), sizes.cumsum(0)])
        starts = torch.repeat_interleave(offsets[:-1], sizes)
        positions = (torch.arange(int(offsets[-1])) - starts)[None]
        return cls(
            positions=positions.to(device),
            sequence_lengths=torch.repeat_interleave(sizes, sizes)[None].to(device),
            caches=[PackedLayout(offsets)] * num_layers,
        )

    def rotated(self, ropes: nn.ModuleDict) -> "Context":
        """The same context with what each `Rope` of `ropes`, by name, says for its positions."""
        return replace(
            self,
            rotations={name: rope(self.positions, self.sequence_lengths) for name, rope in ropes.items()},
        )
