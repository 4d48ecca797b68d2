"""Each of several texts in one spelling: that of the tokenizer, which the model has learned from.

A grammar knows bytes, and most texts are spelled in many ways: 서울 as one token, as two, as six bytes. Who draws one
answer need not care; a search would find the same text several times, and count each as another. Place in the flow:
`rules.py` takes this rule in the place of a grammar where a search is for one of several texts. Read next:
`malmoi/engine/search.py`.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Bool
from torch import Tensor

from malmoi.core.errors import RequestError
from malmoi.engine import LogitsRule
from malmoi.text.tokenizer import Tokenizer

Ids = tuple[int, ...]


class OneSpelling(LogitsRule):
    """The next tokens of the `spellings` that the answer has begun; behind a whole one, `ends`.

    >>> rule = OneSpelling([(1,), (1, 2), (3, 2)], ends={0}, vocab_size=4)
    >>> rule.advance(1)
    >>> rule.allowed()
    tensor([ True, False,  True, False])
    """

    def __init__(self, spellings: Iterable[Ids], *, ends: Iterable[int], vocab_size: int) -> None:
        self._left = list(spellings)  # what is still to come, of those that the answer has begun
        self._ends, self._vocab_size = tuple(ends), vocab_size

    def allowed(self) -> Bool[Tensor, " V"]:
        if not self._left:
            raise RequestError(
                "the answer has begun as none of its choices does. Leave out what it begins with."
            )
        mask = torch.zeros(self._vocab_size, dtype=torch.bool)
        mask[[token for left in self._left for token in left[:1] or self._ends]] = True
        return mask

    def advance(self, token: int) -> None:
        self._left = [left[1:] for left in self._left if left[:1] == (token,)]

    def copy(self) -> "OneSpelling":
        return OneSpelling(self._left, ends=self._ends, vocab_size=self._vocab_size)


def spelling_of(tokenizer: Tokenizer, text: str) -> Ids | None:
    """The tokens of a text that goes on from another; None if the tokenizer writes it otherwise, as NFKC does.

    >>> from malmoi.testing.tokenizer import ByteTokenizer
    >>> spelling_of(ByteTokenizer(), "ab") == tuple(ByteTokenizer().encode("ab"))
    True
    """
    wanted = text.encode()
    ids = tokenizer.encode(text)
    if b"".join(map(tokenizer.token_bytes, ids)) == wanted:
        return tuple(ids)
    # Some begin every text with a space, but not what stands behind another; and some of these take a line for a space.
    for before in ("\n", ".", "a"):
        opening = tokenizer.encode(before)
        ids = tokenizer.encode(before + text)
        rest = ids[len(opening) :]
        if ids[: len(opening)] == opening and b"".join(map(tokenizer.token_bytes, rest)) == wanted:
            return tuple(rest)
    return None
