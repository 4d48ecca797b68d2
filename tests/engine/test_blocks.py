"""The block pool: whatever is asked of it, no block has an owner too many and none is lost, and what it says is found
is there.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from malmoi.engine.blocks import BlockPool

NUM_BLOCKS = 12
KEYS = st.binary(min_size=1, max_size=1)


class Owners(RuleBasedStateMachine):
    """Tables that hold blocks, alone or together, beside a model of what the pool has to know."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(NUM_BLOCKS)
        self.tables: list[list[int]] = []
        self.content: dict[int, bytes] = {}  # what is in a block that was given a key

    @rule(data=st.data())
    def allocate(self, data: st.DataObject) -> None:
        blank = NUM_BLOCKS - len({block for table in self.tables for block in table} | set(self.content))
        idle = [block for block in self.content if self.pool.is_free(block)]
        count = data.draw(st.integers(0, self.pool.num_free))
        blocks = self.pool.allocate(count)
        assert len(blocks) == len(set(blocks)) == count
        evicted = [block for block in blocks if block in self.content]
        assert len(evicted) == max(0, count - blank)  # what is findable goes last
        assert set(evicted) <= set(idle)
        for block in evicted:
            del self.content[block]
        self.tables.append(blocks)

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        table = data.draw(st.sampled_from(self.tables))
        self.pool.share(table)
        self.tables.append(list(table))

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        self.pool.free(self.tables.pop(data.draw(st.integers(0, len(self.tables) - 1))))

    @precondition(lambda self: any(self.tables))
    @rule(data=st.data(), key=KEYS)
    def remember(self, data: st.DataObject, key: bytes) -> None:
        block = data.draw(st.sampled_from([block for table in self.tables for block in table]))
        self.pool.remember(block, key)
        if key not in self.content.values():
            self.content.setdefault(block, key)

    @rule(key=KEYS)
    def look_up_and_use(self, key: bytes) -> None:
        block = self.pool.find(key)
        assert (block is None) == (key not in self.content.values())
        if block is not None:
            assert self.content[block] == key
            self.pool.share([block])
            self.tables.append([block])

    @rule()
    def forget(self) -> None:
        self.pool.forget()
        self.content.clear()

    @invariant()
    def each_block_has_the_owners_that_hold_it_and_none_is_lost(self) -> None:
        held = [block for table in self.tables for block in table]
        assert set(held) <= set(range(NUM_BLOCKS))
        assert self.pool.num_in_use == len(set(held))
        assert self.pool.num_free == NUM_BLOCKS - len(set(held))
        for block in range(NUM_BLOCKS):
            assert self.pool.is_free(block) == (block not in held)
            assert self.pool.is_shared(block) == (held.count(block) > 1)


TestOwners = Owners.TestCase
TestOwners.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


def test_what_was_given_back_longest_ago_is_forgotten_first_and_an_end_before_its_beginning() -> None:
    pool = BlockPool(4)
    old, new = pool.allocate(2), pool.allocate(2)
    for block in old + new:
        pool.remember(block, bytes([block]))
    pool.free(old)
    pool.free(new)
    pool.share([old[0]])  # used again: now it is the newest
    pool.free([old[0]])
    assert [pool.allocate(1) for _ in range(4)] == [[old[1]], [new[1]], [new[0]], [old[0]]]


def test_a_block_that_nobody_owns_cannot_be_freed_or_remembered() -> None:
    pool = BlockPool(2)
    blocks = pool.allocate(1)
    pool.free(blocks)
    with pytest.raises(AssertionError, match="nobody owns it"):
        pool.free(blocks)
    with pytest.raises(AssertionError, match="nobody owns it"):
        pool.remember(blocks[0], b"key")


def test_no_more_blocks_than_there_are() -> None:
    with pytest.raises(AssertionError, match="3 blocks wanted, 2 free"):
        BlockPool(2).allocate(3)
