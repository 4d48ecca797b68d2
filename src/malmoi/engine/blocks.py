"""Who owns which block of the cache: numbers only, the memory itself is the runner's.

A block is `block_size` neighbouring slots of every pool of a group of layers; a generation holds a table of blocks and
fills them in order (Kwon et al. 2023, arXiv:2309.06180, section 4.3). Several generations may hold one block, and a
block that nobody holds may still be found by the key of what is in it. The slots of recurrent states, one a generation,
are handed out by the same class. Read next: `groups.py`, tables of blocks; `prefix.py`, the keys.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field


class BlockPool:
    """Counts the owners of each block, and remembers what is in those that were given a key.

    A block without owners is free. Its content stays findable until the block is handed out again: first go those
    without a key, then the one that was given back longest ago.

    >>> pool = BlockPool(3)
    >>> prefix, rest = pool.allocate(2)
    >>> pool.remember(prefix, b"key")
    >>> pool.free([prefix, rest])
    >>> pool.num_free, pool.find(b"key")            # nobody's, and still there
    (3, 0)
    >>> pool.allocate(2), pool.find(b"key")
    ([1, 2], 0)
    >>> pool.allocate(1), pool.find(b"key")
    ([0], None)
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        # A stack: what was freed last is warm in the processor's cache.
        self._blank = list(reversed(range(num_blocks)))
        self._idle: dict[int, None] = {}  # those with a key and without owners, the oldest first
        self._num_owners = [0] * num_blocks
        self._keys: dict[int, bytes] = {}
        self._blocks: dict[bytes, int] = {}

    @property
    def num_free(self) -> int:
        """How many may be handed out, those that are findable included."""
        return len(self._blank) + len(self._idle)

    @property
    def num_in_use(self) -> int:
        return self.num_blocks - self.num_free

    def allocate(self, count: int) -> list[int]:
        """Take `count` free blocks (mutates the pool). Ask `num_free` first."""
        assert count <= self.num_free, f"{count} blocks wanted, {self.num_free} free"
        blocks = [self._blank.pop() if self._blank else self._evict() for _ in range(count)]
        for block in blocks:
            self._num_owners[block] = 1
        return blocks

    def share(self, blocks: Iterable[int]) -> None:
        """Become another owner of blocks, which may have none (mutates the pool)."""
        for block in blocks:
            self._num_owners[block] += 1
            self._idle.pop(block, None)

    def free(self, blocks: Iterable[int]) -> None:
        """Give blocks back (mutates the pool), each once by each of its owners.

        The last is forgotten first: a beginning is of use without what follows, what follows not without its beginning.
        """
        for block in reversed(list(blocks)):
            assert self._num_owners[block], f"block {block} is freed but nobody owns it"
            self._num_owners[block] -= 1
            if not self._num_owners[block]:
                if block in self._keys:
                    self._idle[block] = None
                else:
                    self._blank.append(block)

    def is_free(self, block: int) -> bool:
        return not self._num_owners[block]

    def is_shared(self, block: int) -> bool:
        """Whether somebody else would see what one of its owners writes into it."""
        return self._num_owners[block] > 1

    def remember(self, block: int, key: bytes) -> None:
        """Make an owned block findable (mutates the pool). Of several with one key the first stays the one."""
        assert self._num_owners[block], f"block {block} gets a key but nobody owns it"
        if key not in self._blocks and block not in self._keys:
            self._blocks[key] = block
            self._keys[block] = key

    def find(self, key: bytes) -> int | None:
        """The block with this key, which may be free: `share` it before anything is allocated."""
        return self._blocks.get(key)

    def forget(self) -> None:
        """Make no block findable any more (mutates the pool); owners keep theirs."""
        self._blank += self._idle
        self._idle.clear()
        self._keys.clear()
        self._blocks.clear()

    def _evict(self) -> int:
        block = next(iter(self._idle))
        del self._idle[block], self._blocks[self._keys.pop(block)]
        return block


@dataclass
class Table:
    """The blocks that a generation holds in one group of layers: number `first` of its sequence and those after it.

    >>> table = Table(first=2, blocks=[7, 4])       # of blocks of 4 tokens: positions 8 to 15
    >>> table.end
    4
    """

    first: int = 0
    blocks: list[int] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The number of the first block that it does not have yet."""
        return self.first + len(self.blocks)
