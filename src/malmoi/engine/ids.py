"""What comes in is ids that the model has: the first question about every request, of either engine.

Read next: `engine.py` and `pool_engine.py`, who ask it.
"""

from collections.abc import Iterable

from malmoi.core.errors import RequestError


def check_ids(where: str, ids: Iterable[object], *, vocab_size: int) -> None:
    """Raise RequestError for the first of `ids` that is none of the vocabulary; `where` says whose they are.

    >>> check_ids("the prompt", [5, 6], vocab_size=7)
    """
    for token in ids:
        if type(token) is not int:
            raise RequestError(
                f"{where} has {token!r}, of the type {type(token).__name__}. Give ids as ints; of an array or "
                "a tensor, `.tolist()` makes them."
            )
        if not 0 <= token < vocab_size:
            raise RequestError(
                f"{where} has the id {token}, outside of the model's vocabulary, 0 to {vocab_size - 1}. "
                "Check that tokenizer and model belong together."
            )
