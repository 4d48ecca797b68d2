"""What stores: where a layer's keys and values wait for later queries.

A layer hands its new keys and values to `cache.extend(k, v)` and gets back the `KeyValues` that its queries
may see. Three kinds come back, and `attend` knows them all:

    Rows        row b of the queries sees row b of the keys                  (B, S, K, H)
    Ragged      sequences of any length end to end; offsets say whose is what  (1, S, K, H)
    PagedView   the same sequences, lying anywhere in a pool of slots        (slots, K, H)

    DenseLayout, PackedLayout   store nothing: a forward over whole sequences
    DenseCache                  grows with each call; for loops over `model(tokens)`
    RollingCache                keeps a window's worth and never grows
    PagedCache                  a pool of slots that many sequences share; for the engine

Which of them a layer needs, its `CacheSpec` says: `KeyValueSpec` here, `state.StateSpec` for recurrent layers.
Read next: `context`, which carries one of these a layer; `attend`, which reads what comes back.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, takewhile
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor, nn

from malmoi.nn.kernels.rowwise import store
from malmoi.nn.state import StateSpec


@dataclass(frozen=True)
class Rows:
    """Keys and values row by row: the T queries of a row are the last T of its S positions.

    Three rows that decode their 6th token: T = 1, S = 6.
    """

    k: Float[Tensor, "B S K H"]
    v: Float[Tensor, "B S K Hv"]


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
    v: Float[Tensor, "1 S K Hv"]
    query_offsets: Int[Tensor, " offsets"]
    key_offsets: Int[Tensor, " offsets"]


KeyValues: TypeAlias = "Rows | Ragged | PagedView"
"""What a layer's queries may see."""


@runtime_checkable  # the test runner checks annotations
class LayerCache(Protocol):
    """One layer's storage, as that layer sees it for one step."""

    def extend(self, k: Float[Tensor, "B T K H"], v: Float[Tensor, "B T K Hv"]) -> KeyValues:
        """Store this step's keys and values (mutates the cache); return all that its queries may see."""
        ...


# --- whole sequences: nothing is kept ----------------------------------------------------------------------


class DenseLayout:
    """A `LayerCache` for rows that are complete in this step: nothing is kept."""

    def extend(self, k: Float[Tensor, "B T K H"], v: Float[Tensor, "B T K Hv"]) -> Rows:
        return Rows(k, v)


class PackedLayout:
    """A `LayerCache` for packed sequences that are complete in this step: nothing is kept.

    Keys are the queries' own sequences, or, with `key_offsets`, others: those of an encoder.

    >>> sequences = PackedLayout(torch.tensor([0, 3, 5]))   # one of 3 tokens, one of 2
    >>> sequences.extend(torch.zeros(1, 5, 1, 4), torch.zeros(1, 5, 1, 4)).key_offsets
    tensor([0, 3, 5])
    """

    def __init__(
        self, offsets: Int[Tensor, " offsets"], key_offsets: Int[Tensor, " offsets"] | None = None
    ) -> None:
        self.offsets = offsets
        self.key_offsets = offsets if key_offsets is None else key_offsets

    def extend(self, k: Float[Tensor, "1 S K H"], v: Float[Tensor, "1 S K Hv"]) -> Ragged:
        return Ragged(k, v, self.offsets, self.key_offsets)


# --- rows that grow ----------------------------------------------------------------------------------------


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

    def extend(self, k: Float[Tensor, "B T K H"], v: Float[Tensor, "B T K Hv"]) -> Rows:
        if self.stored is not None:
            k = torch.cat([self.stored.k, k], dim=1)
            v = torch.cat([self.stored.v, v], dim=1)
        self.stored = Rows(k, v)
        return self.stored


class RollingCache:
    """A `LayerCache` of the last `window` positions: position i is kept in slot i % window, over an older one.

    Memory is constant however long the sequence grows (Jiang et al. 2023, arXiv:2310.06825, section 2, "rolling
    buffer cache"). A single query gets the buffer as it lies, since softmax does not ask for an order; a chunk
    of several gets the keys that its first query still sees, oldest first, and its own.

    With a window of 3, positions 0 to 4 lie as `[3, 4, 2]`:

    >>> cache = RollingCache(window=3)
    >>> for position in range(5):
    ...     rows = cache.extend(*[torch.full((1, 1, 1, 1), float(position))] * 2)
    >>> rows.k.flatten()
    tensor([3., 4., 2.])
    >>> cache.extend(*[torch.tensor([5.0, 6.0]).view(1, 2, 1, 1)] * 2).k.flatten()   # 5 sees 3 4 5, and 6 sees 4 5 6
    tensor([3., 4., 5., 6.])
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.num_seen = 0  # positions, those that were overwritten included
        self.stored: Rows | None = None

    def extend(self, k: Float[Tensor, "B T K H"], v: Float[Tensor, "B T K Hv"]) -> Rows:
        if self.stored is None:
            self.stored = Rows(*(x.new_empty(x.shape[0], self.window, *x.shape[2:]) for x in (k, v)))
        num_new, before = k.shape[1], self.num_seen
        in_reach = torch.arange(max(0, before + 1 - self.window), before, device=k.device) % self.window
        seen = Rows(*(torch.cat([old[:, in_reach], new], dim=1) for old, new in self._pairs(k, v)))
        self.num_seen += num_new
        kept = min(num_new, self.window)
        slots = torch.arange(self.num_seen - kept, self.num_seen, device=k.device) % self.window
        for old, new in self._pairs(k, v):
            old[:, slots] = new[:, num_new - kept :]
        if num_new > 1:
            return seen
        num_stored = min(self.num_seen, self.window)
        return Rows(self.stored.k[:, :num_stored], self.stored.v[:, :num_stored])

    def _pairs(self, k: Tensor, v: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        assert self.stored is not None
        return (self.stored.k, k), (self.stored.v, v)


# --- a pool for many sequences -----------------------------------------------------------------------------


@dataclass(frozen=True)
class BlockTables:
    """The blocks in which the keys of each sequence lie, for kernels that read them where they are.

    Row i of `tables` has the blocks of sequence i in the order of its positions, of `block_size` slots each, and behind
    them anything; its last key is number `lengths[i] - 1` in them. What a window hides may lie before. On the pool's
    device.

    A pool of 4-token blocks, a sequence of 6 tokens in the blocks 7 and 2: `tables = [[7, 2]]`, `lengths = [6]`.
    """

    tables: Int32[Tensor, "sequences blocks"]
    lengths: Int32[Tensor, " sequences"]
    block_size: int

    @cached_property  # asked for in each layer, and a GPU has to be waited for
    def num_keys(self) -> list[int]:
        """`lengths`, for those who count."""
        lengths: list[int] = self.lengths.tolist()
        return lengths


@dataclass(frozen=True)
class PagedStep:
    """Where one step's tokens go in the pool, and where the keys that they may see lie.

    Slots `write` and `read` are on the pool's device, offsets on the CPU as in `Ragged`. `blocks` say where keys lie in
    whole blocks, for kernels that read them there; `read` in slots, for those that gather them. One of them is enough
    to know the other: with blocks alone, `slots_to_read` finds out, and without any, keys are gathered.

    A pool of 4-token blocks; the engine gave sequence a the blocks 7 and 2, and a decodes its 6th token:
    its keys lie in slots 28 29 30 31 8 9, so `write = [9]`, `read = [28, 29, 30, 31, 8, 9]`,
    `query_offsets = [0, 1]`, `key_offsets = [0, 6]`.
    """

    write: Int[Tensor, " T"]
    query_offsets: Int[Tensor, " offsets"]
    key_offsets: Int[Tensor, " offsets"]
    read: Int[Tensor, " S"] | None = None
    blocks: BlockTables | None = None

    @cached_property
    def slots_to_read(self) -> Int[Tensor, " S"]:
        """`read`, given or from the blocks: of each sequence the last of its keys, as many as `key_offsets` say."""
        if self.read is not None:
            return self.read
        assert self.blocks is not None, "a step says in slots or in blocks where its keys lie"
        size, end = self.blocks.block_size, self.blocks.lengths.long()[:, None]
        device = end.device
        slots = (self.blocks.tables.long()[:, :, None] * size + torch.arange(size, device=device)).flatten(1)
        place = torch.arange(slots.shape[1], device=device)
        is_seen = (place >= end - self.key_offsets.diff().to(device)[:, None]) & (place < end)
        return slots[is_seen].to(self.write.device)

    @cached_property  # asked for in each layer
    def queries(self) -> list[tuple[int, int]]:
        """Where those of each sequence begin and end."""
        return list(pairwise(self.query_offsets.tolist()))

    @cached_property
    def num_decoded(self) -> int:
        """How many sequences, from the first on, have a single query."""
        return len(list(takewhile(lambda span: span[1] - span[0] == 1, self.queries)))


class PagedCache:
    """One layer's pool of slots (Kwon et al. 2023, arXiv:2309.06180, section 4).

    Who owns which slot is decided outside (`engine/blocks.py`); this class only writes, copies and gathers. Its `dtype`
    may be narrower than the model's: keys and values are rounded on the way in.

    >>> spec = KeyValueSpec(num_kv_heads=1, head_dim=1)
    >>> pool = PagedCache(12, spec, dtype=torch.float32, device="cpu")
    >>> step = PagedStep(
    ...     write=torch.tensor([9, 2]), read=torch.tensor([9, 2]),
    ...     query_offsets=torch.tensor([0, 2]), key_offsets=torch.tensor([0, 2]),
    ... )
    >>> new = torch.tensor([5.0, 6.0]).view(1, 2, 1, 1)
    >>> pool.at(step).extend(new, new).gather().k.flatten(), pool.k[9].item()
    (tensor([5., 6.]), 5.0)
    """

    scales: tuple[Tensor, Tensor] | None = None
    """What a step of the keys and of the values is worth, where they are kept in steps (`int8_cache`)."""

    def __init__(
        self, num_slots: int, spec: "KeyValueSpec", *, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        # Not zeros: a slot is written before it is read, and memory that no sequence reaches costs nothing.
        self.k, self.v = (
            torch.empty(num_slots, spec.num_kv_heads, width, dtype=dtype, device=device)
            for width in (spec.head_dim, spec.value_width)
        )

    @property
    def num_bytes(self) -> int:
        """What the pool takes, used or not."""
        return sum(tensor.nbytes for tensor in (self.k, self.v, *(self.scales or ())))

    @staticmethod
    def bytes_per_token(spec: "KeyValueSpec", element_size: int) -> int:
        """What a layer's slot takes, at `element_size` bytes a number of the model's."""
        return spec.bytes_per_token(element_size)

    def at(self, step: PagedStep) -> "PagedView":
        """This pool as one step sees it: the `LayerCache` to put into the step's `Context`."""
        return PagedView(self, step)

    def write(
        self,
        slots: Int[Tensor, " T"],
        k: Float[Tensor, "*batch T K H"],
        v: Float[Tensor, "*batch T K Hv"],
    ) -> None:
        """Store the keys and values of T tokens, a token a slot (mutates the pool)."""
        store(self.k, self.v, slots, k, v)

    def read(self, slots: Int[Tensor, " S"]) -> tuple[Float[Tensor, "S K H"], Float[Tensor, "S K Hv"]]:
        """A copy of what lies in `slots`."""
        # index_select, not indexing: the same gather in a quarter of the time (bf16: a twentieth).
        return self.k.index_select(0, slots), self.v.index_select(0, slots)

    def copy(self, to: Int[Tensor, " slots"], source: Int[Tensor, " slots"]) -> None:
        """Let the slots `to` hold what those of `source` hold (mutates the pool)."""
        for tensor in (self.k, self.v):
            tensor.index_copy_(0, to, tensor.index_select(0, source))


class PagedView:
    """The pool under one step's slots: a `LayerCache`, and the `KeyValues` that it gives back.

    Sequences are as in `Ragged`, and so are offsets, but keys and values stay where they lie until a kernel asks.
    """

    def __init__(self, pool: PagedCache, step: PagedStep) -> None:
        self.pool, self.step = pool, step

    def extend(self, k: Float[Tensor, "1 T K H"], v: Float[Tensor, "1 T K Hv"]) -> "PagedView":
        self.pool.write(self.step.write, k, v)
        return self

    def gather(self) -> Ragged:
        """All keys and values of the step's sequences, copied end to end."""
        k, v = self.pool.read(self.step.slots_to_read)
        return Ragged(k[None], v[None], self.step.query_offsets, self.step.key_offsets)


# --- what a layer asks for ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class KeyValueSpec:
    """What an attention layer keeps of a token: for each key head a key of `head_dim` and a value of `value_dim`.

    `value_dim=None` is as wide as the key; 0 where the values are a part of the keys (`mla`). `window` is how
    many positions a query sees, None for all. `is_of_source`: the tokens are those of the encoder's sequence.

    >>> KeyValueSpec(num_kv_heads=8, head_dim=128).bytes_per_token(2)   # bf16: 2 x 8 x 128 x 2
    4096
    """

    num_kv_heads: int
    head_dim: int
    value_dim: int | None = None
    window: int | None = None
    is_of_source: bool = False

    @property
    def value_width(self) -> int:
        return self.head_dim if self.value_dim is None else self.value_dim

    @property
    def is_shareable(self) -> bool:
        """Whether two sequences with the same first tokens have the same entries for them."""
        return not self.is_of_source

    @property
    def is_truncatable(self) -> bool:
        """Whether the last tokens can be taken back: not where they overwrote older ones."""
        return self.window is None

    def bytes_per_token(self, element_size: int) -> int:
        """Bytes of one layer's keys and values of a token, at `element_size` bytes a number."""
        return self.num_kv_heads * (self.head_dim + self.value_width) * element_size

    def bytes_per_sequence(self, element_size: int) -> int:
        """All that is kept is of tokens."""
        return 0

    def layout(self) -> DenseLayout:
        """For rows that are complete in one step."""
        return DenseLayout()

    def packed_layout(
        self, offsets: Int[Tensor, " offsets"], source_offsets: Int[Tensor, " offsets"] | None
    ) -> PackedLayout:
        """For packed sequences that are complete in one step."""
        return PackedLayout(offsets, source_offsets if self.is_of_source else None)

    def new_cache(self) -> DenseCache | RollingCache:
        """For rows that go on from step to step."""
        return DenseCache() if self.window is None else RollingCache(self.window)


CacheSpec = KeyValueSpec | StateSpec
"""What one layer keeps, of each token or of each sequence."""


class CachedLayer(nn.Module):
    """A layer that keeps something of its tokens for later ones.

    Attributes:
        cache_spec: what it keeps, set by the layer.
        cache_index: which of `Context.caches` is its own, set by the stack that it is put into.
    """

    cache_spec: CacheSpec
    cache_index: int = 0
