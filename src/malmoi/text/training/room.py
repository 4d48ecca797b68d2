"""Is there text, and is the vocabulary that was asked for possible? Every algorithm asks before it trains, and after.

A vocabulary is never filled up with something else, and never smaller than it was asked to be without a word.
Read next: corpus.py.
"""

from collections.abc import Iterable, Iterator, Sequence

from malmoi.core.errors import TokenizerError

MAX_VOCAB_SIZE = 2**24
"""The most tokens that may be asked for. The library reserves memory for all of them before it learns the first: for so
many 1.5 GiB. If there is not enough, it ends the process."""


def with_text(texts: Iterable[str], *, corpus: str = "the corpus") -> Iterator[str]:
    """Give the texts as they come, and refuse a corpus that had none: nothing can be learned of it.

    >>> list(with_text(["", "나는"]))
    ['', '나는']

    Raises:
        TokenizerError: behind the last one, if all were empty or white space. It calls them `corpus`.
    """
    has_text = False
    for text in texts:
        has_text = has_text or not (text == "" or text.isspace())
        yield text
    if not has_text:
        raise TokenizerError(f"there is no text to learn from in {corpus}. Give more.")


def check_room(vocab_size: int, special_tokens: Sequence[str], num_others: int, others: str) -> int:
    """Return how many tokens stand in the vocabulary before anything is learned; refuse a size without room for them.

    `others` says what the `num_others` are that this algorithm cannot do without.

    >>> check_room(8192, ("<|endoftext|>",), 256, "256 bytes")
    257

    Raises:
        TokenizerError: there is no room, or more than `MAX_VOCAB_SIZE` tokens are asked for, or a special token is
            empty or named twice.
    """
    if len(set(special_tokens)) < len(special_tokens) or "" in special_tokens:
        raise TokenizerError(
            f"special_tokens={list(special_tokens)} names one twice or is empty. Give each a name."
        )
    num_fixed = len(special_tokens) + num_others
    if vocab_size < num_fixed:
        raise TokenizerError(
            f"vocab_size={vocab_size} has no room for {len(special_tokens)} special tokens and {others}. "
            f"Use {num_fixed} or more."
        )
    if vocab_size > MAX_VOCAB_SIZE:
        raise TokenizerError(f"vocab_size={vocab_size} is too large. Use {MAX_VOCAB_SIZE} or fewer.")
    return num_fixed


def check_reached(reached: int, vocab_size: int, num_fixed: int, learned: str) -> None:
    """Refuse a text that gave fewer than `vocab_size` tokens. `learned` says what those are that it did give.

    Raises:
        TokenizerError: with the largest size that the text supports.
    """
    if reached < vocab_size:
        raise TokenizerError(
            f"vocab_size={vocab_size}, but the text has only {max(reached - num_fixed, 0)} {learned}. "
            f"Use {reached} or fewer, or more text."
        )
