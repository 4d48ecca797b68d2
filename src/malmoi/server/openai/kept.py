"""Answers that a server keeps, so that a client need not send them again: the newest, as many as there is room for.

Place in the flow: `responses.py` keeps what it has answered. Read next: `responses.py`.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from malmoi.server.errors import ServerError
from malmoi.server.wire import as_json


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An answer in the form that its client got, and the conversation up to its end."""

    answer: dict[str, Any]
    conversation: list[dict[str, Any]]

    @property
    def num_bytes(self) -> int:
        """Of both, as JSON in UTF-8."""
        both = {"answer": self.answer, "conversation": self.conversation}
        return len(as_json(both).encode("utf-8", "surrogatepass"))


class Shelf:
    """Keeps `max_count` answers of `max_bytes` together; to make room, the one that was used longest ago goes.

    Whoever knows the id of an answer may read it. Ids are random, and nobody is told those of others.

    >>> shelf = Shelf(max_count=2, max_bytes=1000)
    >>> for id in "abc":
    ...     is_kept = shelf.put(id, Kept(answer={"id": id}, conversation=[]))
    >>> shelf.get("c").answer, len(shelf)
    ({'id': 'c'}, 2)
    >>> shelf.get("a")
    Traceback (most recent call last):
        ...
    malmoi.server.errors.ServerError: no response 'a' is kept here. Send the whole conversation.
    """

    def __init__(self, *, max_count: int, max_bytes: int) -> None:
        self.max_count, self.max_bytes = max_count, max_bytes
        self._kept: OrderedDict[str, tuple[Kept, int]] = OrderedDict()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, id: str, kept: Kept) -> bool:
        """Keep an answer (mutates the shelf); False for one that alone has more than `max_bytes`."""
        size = kept.num_bytes
        if size > self.max_bytes:
            return False
        self._kept[id] = kept, size
        self.num_bytes += size
        while len(self._kept) > self.max_count or self.num_bytes > self.max_bytes:
            self._forget(next(iter(self._kept)))
        return True

    def get(self, id: str) -> Kept:
        """An answer. Raises ServerError (404) for one that is not here."""
        self._require(id)
        self._kept.move_to_end(id)
        return self._kept[id][0]

    def delete(self, id: str) -> None:
        """Forget an answer (mutates the shelf). Raises as `get` does."""
        self._require(id)
        self._forget(id)

    def _forget(self, id: str) -> None:
        self.num_bytes -= self._kept.pop(id)[1]

    def _require(self, id: str) -> None:
        if id not in self._kept:
            raise ServerError(
                f"no response {id!r:.80} is kept here. Send the whole conversation.", status=404
            )
