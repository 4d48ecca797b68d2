"""What a block holds, as a key: two blocks with one key were computed from the same beginning of a sequence.

The keys of a sequence are a chain, each made of the one before and of what stands in the block: ids, and whatever of
images and sounds stands in their place. Place in the flow: the scheduler looks a request's keys up when it admits it,
and remembers those of the blocks that a step has filled. Read next: `scheduler.py`.
"""

from array import array
from collections.abc import Sequence
from hashlib import blake2b

from malmoi.engine.request import Request


def extend_keys(keys: list[bytes], request: Request, ids: Sequence[int], *, block_size: int) -> None:
    """Add the keys of the full blocks of `ids` that `keys` does not have yet (mutates `keys`).

    The root of the chain is the request's `salt`, so that what one tenant has computed is never found by another: who
    measures how fast an answer begins learns nothing of other tenants' prompts. BLAKE2b is RFC 7693.

    >>> keys, longer = [], []
    >>> extend_keys(keys, Request(tokens=[1, 2, 3, 4, 5]), [1, 2, 3, 4, 5], block_size=2)
    >>> extend_keys(longer, Request(tokens=[1, 2, 3, 9]), [1, 2, 3, 9], block_size=2)
    >>> len(keys), keys[0] == longer[0], keys[1] == longer[1]
    (2, True, False)
    """
    parent = keys[-1] if keys else _digest(request.salt.encode("utf-8", "surrogatepass"))
    for start in range(len(keys) * block_size, len(ids) - block_size + 1, block_size):
        end = start + block_size
        content = [parent, array("q", ids[start:end]).tobytes()]
        for attachment in request.attachments:
            if attachment.start < end and start < attachment.end:
                content += [array("q", [attachment.start]).tobytes(), _digest(attachment.content_key)]
        parent = _digest(b"".join(content))
        keys.append(parent)


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=32).digest()
