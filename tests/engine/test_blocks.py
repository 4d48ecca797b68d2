"""The block pool: whatever is asked of it, no block has two owners and none is lost."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from malmoi.engine.blocks import BlockPool

NUM_BLOCKS = 12


class Owners(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(NUM_BLOCKS)
        self.owned: list[list[int]] = []

    @rule(data=st.data())
    def allocate(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(0, self.pool.num_free))
        blocks = self.pool.allocate(count)
        assert len(blocks) == count
        self.owned.append(blocks)

    @precondition(lambda self: self.owned)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        self.pool.free(self.owned.pop(data.draw(st.integers(0, len(self.owned) - 1))))

    @invariant()
    def no_block_has_two_owners_and_none_is_lost(self) -> None:
        blocks = [block for owned in self.owned for block in owned]
        assert len(set(blocks)) == len(blocks)
        assert set(blocks) <= set(range(NUM_BLOCKS))
        assert self.pool.num_free == NUM_BLOCKS - len(blocks)


TestOwners = Owners.TestCase
TestOwners.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


def test_a_block_that_nobody_owns_cannot_be_freed() -> None:
    pool = BlockPool(2)
    blocks = pool.allocate(1)
    pool.free(blocks)
    with pytest.raises(AssertionError, match="nobody owns it"):
        pool.free(blocks)


def test_no_more_blocks_than_there_are() -> None:
    with pytest.raises(AssertionError, match="3 blocks wanted, 2 free"):
        BlockPool(2).allocate(3)
