"""Layers that keep the same positions, and what they hold of a generation.

A model's layers fall into groups: those that see everything, those that see a window, those that read a source. The
layers of a group share tables of blocks, and each group has a pool of its own, because what is behind a window is given
back while the others keep it. Place in the flow: the engine makes them, the scheduler asks what a generation lacks.
Read next: `scheduler.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from malmoi.engine.blocks import BlockPool, Table
from malmoi.engine.request import Generation

Kind = tuple[int | None, bool]
"""What tells groups apart: the window of their layers, and whether what they keep is of a source."""


def num_blocks_held(length: int, *, block_size: int, window: int | None, tokens_per_step: int) -> int:
    """The most blocks that a sequence of `length` tokens holds at a time.

    Behind a window nothing is kept, so beyond it the number stays: that of a window and of the longest step, at the
    worst place between two blocks.

    >>> [num_blocks_held(n, block_size=4, window=6, tokens_per_step=3) for n in (4, 8, 16, 16_000)]
    [1, 2, 3, 3]
    """
    in_all = -(-length // block_size)
    if window is None:
        return in_all
    return min(in_all, -(-(window + tokens_per_step - 2) // block_size) + 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """The blocks of the layers that see `window` positions, None for all, of their own sequence or of its source.

    A table is filled ahead of what is computed: without a window for all ids that there are, so that a prompt is
    begun only where it can be finished; with one for the next `tokens_per_step`.

    >>> group = Group(num_blocks=8, block_size=4, window=6, tokens_per_step=3)
    >>> group.roll(table := Table(blocks=group.pool.allocate(4)), num_computed=10)    # position 10 sees 5 to 10
    >>> table, group.pool.num_in_use
    (Table(first=1, blocks=[1, 2, 3]), 3)
    """

    num_blocks: int
    block_size: int
    tokens_per_step: int
    window: int | None = None
    is_of_source: bool = False
    pool: BlockPool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pool", BlockPool(self.num_blocks))

    @property
    def kind(self) -> Kind:
        """What tells it from other groups."""
        return self.window, self.is_of_source

    def room_for(self, length: int, *, num_sequences: int = 1) -> int:
        """How long each of so many sequences that are alone may become, if no longer than `length`."""
        needed = num_blocks_held(
            length, block_size=self.block_size, window=self.window, tokens_per_step=self.tokens_per_step
        )
        num_blocks = self.num_blocks // num_sequences
        return length if needed <= num_blocks else num_blocks * self.block_size

    def num_missing(self, generation: Generation, table: Table) -> int:
        """How many blocks it lacks for what comes next."""
        if self.is_of_source:
            length = len(generation.request.source or ())
        else:
            length = len(generation.ids)
            if self.window is not None:
                length = min(length, generation.num_computed + self.tokens_per_step)
        return -(-length // self.block_size) - table.end

    def first_seen(self, position: int) -> int:
        """The number of the first block that holds something that is seen from `position`."""
        return 0 if self.window is None else max(0, position - self.window + 1) // self.block_size

    def shared_place(self, generation: Generation, table: Table) -> int | None:
        """Where in the table the next id would be written into a block that others hold, too."""
        place = generation.num_computed // self.block_size - table.first
        if self.is_of_source or place >= len(table.blocks):
            return None
        return place if self.pool.is_shared(table.blocks[place]) else None

    def num_extensible(self, generation: Generation, table: Table) -> int:
        """How many tokens behind its ids there is room for, if all free blocks were its own."""
        return (table.end + self.pool.num_free) * self.block_size - len(generation.ids)

    def extend(self, table: Table, length: int) -> None:
        """Give a table the blocks that a sequence of `length` tokens lacks (mutates table and pool)."""
        table.blocks += self.pool.allocate(max(0, -(-length // self.block_size) - table.end))

    def cut(self, table: Table, length: int) -> None:
        """Give back the blocks behind a sequence of `length` tokens (mutates table and pool)."""
        num_kept = max(0, -(-length // self.block_size) - table.first)
        self.pool.free(table.blocks[num_kept:])
        del table.blocks[num_kept:]

    def roll(self, table: Table, num_computed: int) -> None:
        """Give back the blocks that no query sees any more (mutates table and pool)."""
        num_behind = self.first_seen(num_computed) - table.first
        if num_behind > 0:
            self.pool.free(table.blocks[:num_behind])
            del table.blocks[:num_behind]
            table.first += num_behind


def find_prefix(groups: Sequence[Group], keys: Sequence[bytes]) -> tuple[int, list[Table]]:
    """The longest beginning that is in the cache, in blocks, and where it lies in each group.

    A group with a window needs only what is seen from there on: of a long beginning the last few blocks. Changes
    nothing: who uses what is found has to share it.
    """
    found = [[group.pool.find(key) for key in keys] for group in groups]
    runs = [0] * len(groups)  # how many of the last blocks, without a gap, each group has
    longest = 0
    for num_blocks, blocks in enumerate(zip(*found, strict=True), start=1):
        runs = [run + 1 if block is not None else 0 for run, block in zip(runs, blocks, strict=True)]
        firsts = [group.first_seen(num_blocks * group.block_size) for group in groups]
        if all(run >= num_blocks - first for run, first in zip(runs, firsts, strict=True)):
            longest = num_blocks
    tables = []
    for group, of_group in zip(groups, found, strict=True):
        first = group.first_seen(longest * group.block_size)
        tables.append(Table(first, [block for block in of_group[first:longest] if block is not None]))
    return longest, tables
