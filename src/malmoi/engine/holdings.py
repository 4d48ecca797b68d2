"""What each generation holds of the cache: blocks of every group of layers, and a slot for its recurrent states.

    Scheduler (who runs) -> HOLDINGS: begin, extend, fork, release -> Group, BlockPool (who owns which block)

Blocks change hands here; who has to give way for whom is not decided here. Read next: `scheduler.py`.
"""

from collections.abc import Sequence

from malmoi.engine.blocks import BlockPool, Table
from malmoi.engine.groups import Group, find_prefix
from malmoi.engine.prefix import extend_keys
from malmoi.engine.request import Generation


class Holdings:
    """Hands out blocks and slots, all that a generation lacks or nothing.

    What was computed stays findable by its content until the memory is needed (`has_prefix_cache`). What others hold,
    too, nobody writes into: whoever would, gets a copy, which has to be made before the model runs.

    >>> from malmoi.engine import Request
    >>> group = Group(num_blocks=8, block_size=4, tokens_per_step=6)
    >>> holdings = Holdings([group], num_slots=2, has_prefix_cache=True)
    >>> generation = Generation(Request(tokens=[1, 2, 3, 4, 5]))
    >>> holdings.begin(generation), generation.tables, generation.state_slot
    (True, [Table(first=0, blocks=[0, 1])], 0)
    >>> holdings.release(generation)
    >>> holdings.num_blocks_in_use
    0
    """

    def __init__(self, groups: Sequence[Group], *, num_slots: int, has_prefix_cache: bool) -> None:
        self.groups = tuple(groups)
        self.state_slots = BlockPool(num_slots)
        self.has_prefix_cache = has_prefix_cache and bool(groups)
        self._copies: list[dict[int, int]] = [{} for _ in self.groups]
        self._state_copies: dict[int, int] = {}

    @property
    def num_blocks_in_use(self) -> int:
        """Of all groups together; what is only findable is not in use."""
        return sum(group.pool.num_in_use for group in self.groups)

    def take_copies(self) -> tuple[list[dict[int, int]], dict[int, int]]:
        """What has to be copied before the model runs, as `Plan` says it (mutates: it is forgotten)."""
        copies = self._copies, self._state_copies
        self._copies, self._state_copies = [{} for _ in self.groups], {}
        return copies

    def begin(self, generation: Generation) -> bool:
        """Give a generation its first blocks, if all are there: those found in the cache, and those it lacks."""
        generation.num_computed, generation.tables = self._find_prefix(generation)
        tables = list(zip(self.groups, generation.tables, strict=True))
        missing = [group.num_missing(generation, table) for group, table in tables]
        if any(
            count + sum(map(group.pool.is_free, table.blocks)) > group.pool.num_free
            for count, (group, table) in zip(missing, tables, strict=True)
        ):
            generation.num_computed, generation.tables = 0, []
            return False
        for count, (group, table) in zip(missing, tables, strict=True):
            group.pool.share(table.blocks)
            table.blocks += group.pool.allocate(count)
        [generation.state_slot] = self.state_slots.allocate(1)
        if not generation.choices:
            generation.num_cached = generation.num_computed
        return True

    def extend(self, generation: Generation) -> bool:
        """Give a generation what it lacks for its next step, if all of it is there.

        Into a block that others hold, too, it must not write: it gets a copy, and they keep the block.
        """
        wants = []
        for group, table, copies in zip(self.groups, generation.tables, self._copies, strict=True):
            place = group.shared_place(generation, table)
            count = group.num_missing(generation, table)
            if count or place is not None:
                wants.append((group, table, copies, place, count))
        if any(count + (place is not None) > group.pool.num_free for group, *_, place, count in wants):
            return False
        for group, table, copies, place, count in wants:
            if place is not None:
                [own] = group.pool.allocate(1)
                copies[own] = table.blocks[place]
                group.pool.free([table.blocks[place]])
                table.blocks[place] = own
            table.blocks += group.pool.allocate(count)
        return True

    def extend_for_draft(self, generation: Generation, limit: int) -> int:
        """Give it room for tokens behind its ids, at most `limit`; return for how many there is."""
        tables = [
            (group, table)
            for group, table in zip(self.groups, generation.tables, strict=True)
            if not group.is_of_source
        ]
        num_tokens = min([limit, *(group.num_extensible(generation, table) for group, table in tables)])
        if num_tokens > 0:
            for group, table in tables:
                group.extend(table, len(generation.ids) + num_tokens)
        return num_tokens

    def fork(self, generation: Generation, other: Generation) -> None:
        """Let `other` hold the same, with a copy of its states."""
        other.num_computed = generation.num_computed
        for group, table in zip(self.groups, generation.tables, strict=True):
            group.pool.share(table.blocks)
            other.tables.append(Table(table.first, list(table.blocks)))
        [other.state_slot] = self.state_slots.allocate(1)
        assert generation.state_slot is not None, "it runs"
        self._state_copies[other.state_slot] = generation.state_slot

    def remember(self, generation: Generation, num_new: int) -> None:
        """Make the blocks findable that the last `num_new` ids have filled."""
        if not self.has_prefix_cache:
            return
        block_size = self.groups[0].block_size
        filled = range(
            (generation.num_computed - num_new) // block_size, generation.num_computed // block_size
        )
        if not filled:
            return
        extend_keys(generation.keys, generation.request, generation.ids, block_size=block_size)
        for group, table in zip(self.groups, generation.tables, strict=True):
            for number in filled:
                group.pool.remember(table.blocks[number - table.first], generation.keys[number])

    def trim(self, generation: Generation, *, has_drafted: bool) -> None:
        """Take back what no query sees any more, and the blocks of a draft that was wrong."""
        for group, table in zip(self.groups, generation.tables, strict=True):
            if has_drafted and not group.is_of_source:
                group.cut(table, generation.num_computed)
            group.roll(table, generation.num_computed)

    def release(self, generation: Generation) -> None:
        """Take everything back, if it holds anything."""
        if generation.state_slot is None:
            return
        for group, table in zip(self.groups, generation.tables, strict=True):
            group.pool.free(table.blocks)
        self.state_slots.free([generation.state_slot])
        generation.tables, generation.draft, generation.state_slot = [], [], None

    def forget(self) -> None:
        """Make nothing findable any more: what is in the blocks is no longer true."""
        for group in self.groups:
            group.pool.forget()

    def _find_prefix(self, generation: Generation) -> tuple[int, list[Table]]:
        if not self.has_prefix_cache or generation.is_scoring:
            return 0, [Table() for _ in self.groups]
        block_size = self.groups[0].block_size
        extend_keys(generation.keys, generation.request, generation.ids, block_size=block_size)
        num_blocks, tables = find_prefix(
            self.groups, generation.keys[: (len(generation.ids) - 1) // block_size]
        )
        return num_blocks * block_size, tables
