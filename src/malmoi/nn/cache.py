"""What stores: where a layer's keys and values wait for later queries.

A layer hands its new keys and values to `cache.extend(k, v)` and gets back the `KeyValues` that its queries
may see. Two shapes come back, and `attend` knows both:

    Rows     row b of the queries sees row b of the keys                  (B, S, K, H)
    Ragged   sequences of any length end to end; offsets say whose is what  (1, S, K, H)

    DenseLayout, PackedLayout   store nothing: a forward over whole sequences
    DenseCache                  grows with each call; for loops over `model(tokens)`
    PagedCache                  a pool of slots that many sequences share; for the engine

Read next: `context`, which carries one of these a layer; `attend`, which reads what comes back.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Keys and values row by row: the T queries of a row are the last T of its S positions.

    Three rows that decode their 6th token: T = 1, S = 6.
    """

    k: Float[Tensor, "B S K H"]
    v: Float[Tensor, "B S K H"]


@dataclass(frozen=True)
class Ragged:
    """Keys and values of several sequences end to end.

    Sequence i owns the queries `query_offsets[i] : query_offsets[i + 1]` and the keys
    `key_offsets[i] : key_offsets[i + 1]`; its queries are the last ones of its positions. Offsets live on the
    CPU: kernels slice with them.

    A sequence that decodes its 5th token beside one that prefills 3: `query_offsets = [0, 1, 4]`,
    `key_offsets = [0, 5, 8]`.
    """

    k: Float[Tensor, "1 S K H"]
    v: Float[Tensor, "1 S K H"]
    query_offsets: Int[Tensor, " offsets"]
    key_offsets: Int[Tensor, " offsets"]


KeyValues = Rows | Ragged


@runtime_checkable  # the test runner checks annotations
class LayerCache(Protocol):
    """One layer's storage, as that layer sees it for one step."""

    def extend(self, k: Float[Tensor, "B T K H"], v: Float[Tensor, "B T K H"]) -> KeyValues:
        """Store this step's keys and values (mutates the cache); return all that its queries may see."""
        ...


class DenseLayout:
    """A `LayerCache` for rows that are complete in this step: nothing is kept."""

    def extend(self, k: Float[Tensor, "B T K H"], v: Float[Tensor, "B T K H"]) -> Rows:
        return Rows(k, v)


class PackedLayout:
    """A `LayerCache` for packed sequences that are complete in this step: nothing is kept.

    >>> sequences = PackedLayout(torch.tensor([0, 3, 5]))   # one of 3 tokens, one of 2
    >>> sequences.extend(torch.zeros(1, 5, 1, 4), torch.zeros(1, 5, 1, 4)).key_offsets
    tensor([0, 3, 5])
    """

    def __init__(self, offsets: Int[Tensor, " offsets"]) -> None:
        self.offsets = offsets

    def extend(self, k: Float[Tensor, "1 T K H"], v: Float[Tensor, "1 T K H"]) -> Ragged:
        return Ragged(k, v, self.offsets, self.offsets)


class DenseCache:
    """A `LayerCache` that grows by concatenation: simple, exact, and every step copies all that is stored.

    >>> cache = DenseCache()
    >>> for _ in range(3):
    ...     rows = cache.extend(torch.zeros(2, 1, 1, 4), torch.zeros(2, 1, 1, 4))
    >>> rows.k.shape
    torch.Size([2, 3, 1, 4])
    """

    def __init__(self) -> None:
        self.stored: Rows | None = None

    def extend(self, k: Float[Tensor, "B T K H"], v: Float[Tensor, "B T K H"]) -> Rows:
        if self.stored is not None:
            k = torch.cat([self.stored.k, k], dim=1)
            v = torch.cat([self.stored.v, v], dim=1)
        self.stored = Rows(k, v)
        return self.stored


@dataclass(frozen=True)
class PagedStep:
    """Where one step's tokens go in the pool, and where the keys that they may see lie.

    Slots `write` and `read` are on the pool's device, offsets on the CPU as in `Ragged`.

    A pool of 4-token blocks; the engine gave sequence a the blocks 7 and 2, and a decodes its 6th token:
    its keys lie in slots 28 29 30 31 8 9, so `write = [9]`, `read = [28, 29, 30, 31, 8, 9]`,
    `query_offsets = [0, 1]`, `key_offsets = [0, 6]`.
    """

    write: Int[Tensor, " T"]
    read: Int[Tensor, " S"]
    query_offsets: Int[Tensor, " offsets"]
    key_offsets: Int[Tensor, " offsets"]


class PagedCache:
    """One layer's pool of slots (Kwon et al. 2023, arXiv:2309.06180, section 4).

    Who owns which slot is decided outside (`engine/blocks.py`); this class only writes and gathers. Its `dtype`
    may be narrower than the model's: keys and values are rounded on the way in.

    >>> pool = PagedCache(12, 1, 1, dtype=torch.float32, device="cpu")
    >>> step = PagedStep(
    ...     write=torch.tensor([9, 2]), read=torch.tensor([9, 2]),
    ...     query_offsets=torch.tensor([0, 2]), key_offsets=torch.tensor([0, 2]),
    ... )
    >>> new = torch.tensor([5.0, 6.0]).view(1, 2, 1, 1)
    >>> pool.at(step).extend(new, new).k.flatten(), pool.k[9].item()
    (tensor([5., 6.]), 5.0)
    """

    def __init__(
        self,
        num_slots: int,
        num_kv_heads: int,
        head_dim: int,
        *,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        # Not zeros: a slot is written before it is read, and memory that no sequence reaches costs nothing.
        self.k = torch.empty(num_slots, num_kv_heads, head_dim, dtype=dtype, device=device)
        self.v = torch.empty_like(self.k)

    def at(self, step: PagedStep) -> "PagedView":
        """This pool as one step sees it: the `LayerCache` to put into the step's `Context`."""
        return PagedView(self, step)


class PagedView:
    """A `LayerCache`: the pool under one step's slots. `extend` writes into the pool."""

    def __init__(self, pool: PagedCache, step: PagedStep) -> None:
        self.pool, self.step = pool, step

    def extend(self, k: Float[Tensor, "1 T K H"], v: Float[Tensor, "1 T K H"]) -> Ragged:
        pool, step = self.pool, self.step
        pool.k.index_copy_(0, step.write, k[0].to(pool.k.dtype))
        pool.v.index_copy_(0, step.write, v[0].to(pool.v.dtype))
        # index_select, not indexing: the same gather in a quarter of the time (bf16: a twentieth).
        k, v = pool.k.index_select(0, step.read), pool.v.index_select(0, step.read)
        return Ragged(k[None], v[None], step.query_offsets, step.key_offsets)


@dataclass(frozen=True, kw_only=True)
class CacheSpec:
    """What one layer asks the engine to keep of a token: two vectors of `head_dim` for each key/value head.

    >>> CacheSpec(num_kv_heads=8, head_dim=128).bytes_per_token(2)   # bf16: 2 x 8 x 128 x 2
    4096
    """

    num_kv_heads: int
    head_dim: int

    def bytes_per_token(self, element_size: int) -> int:
        """Bytes of one layer's keys and values of a token, at `element_size` bytes a number."""
        return 2 * self.num_kv_heads * self.head_dim * element_size
