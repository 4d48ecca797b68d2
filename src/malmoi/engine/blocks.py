"""Who owns which block of the cache: numbers only, the memory itself is the runner's.

A block is `block_size` neighbouring slots of every layer's pool; a generation owns a list of blocks and fills
them in order (Kwon et al. 2023, arXiv:2309.06180, section 4.3). The slots of recurrent states, one a generation, are
handed out by the same rule. Read next: `scheduler.py`, the only caller.
"""

from collections.abc import Iterable


class BlockPool:
    """Hands out each block to one owner at a time.

    >>> pool = BlockPool(4)
    >>> pool.allocate(3)
    [0, 1, 2]
    >>> pool.free([1, 0])
    >>> pool.num_free, pool.allocate(2)
    (3, [0, 1])
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._free = list(
            reversed(range(num_blocks))
        )  # a stack: what was freed last is warm in the processor's cache
        self._is_owned = [False] * num_blocks

    @property
    def num_free(self) -> int:
        return len(self._free)

    def allocate(self, count: int) -> list[int]:
        """Take `count` free blocks (mutates the pool). Ask `num_free` first."""
        assert count <= self.num_free, f"{count} blocks wanted, {self.num_free} free"
        blocks = [self._free.pop() for _ in range(count)]
        for block in blocks:
            self._is_owned[block] = True
        return blocks

    def free(self, blocks: Iterable[int]) -> None:
        """Give blocks back (mutates the pool), each by its owner and once."""
        for block in blocks:
            assert self._is_owned[block], f"block {block} is freed but nobody owns it"
            self._is_owned[block] = False
            self._free.append(block)
