"""More of a language's words in a vocabulary that a model was trained with: `base, texts -> expand -> Tokenizer`.

    a model's tokenizer -> EXPAND -> tokenizer.json -> adapt.resize (rows for the new ids) -> continued training

What holds of the result: every old id is the same token, special ones too; a text without Hangul has the same ids; a
text with Hangul has fewer. Read next: `growth.py`, what changes in the file; `adapt/resize.py`, the model's side.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from malmoi.core.errors import TokenizerError
from malmoi.text.hangul import num_syllables
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.vocabulary.growth import growth_of

MOST_ADDED = 2**16
"""The most tokens that `expand_until` adds."""


def expand(
    base: Tokenizer,
    texts: Iterable[str],
    *,
    num_added: int,
    across_spaces: bool = False,
    show_progress: bool = False,
) -> Tokenizer:
    """Return `base` with `num_added` more tokens for Hangul, learned by continuing its merges on `texts`.

    The corpus is cut and spelled as the base does it, and what is joined most often becomes the next token (as in
    "In-Place Tokenizer Expansion", arXiv:2607.15232). Our difference: only what lies inside Hangul is joined, so that
    every other language keeps its ids. A space is joined to the word that follows alone, even where the base cuts no
    words; with `across_spaces` also to the one before it, if the base does not cut there. `texts` is read once; memory
    grows with the number of different words. The file asks for no truncation and no padding, whatever the base's did.

    Raises:
        TokenizerError: `num_added` is not positive; the base has no merges to continue; `texts` has no Hangul, or too
            little for so many tokens.

    >>> from malmoi.text.training import train_bpe
    >>> base = train_bpe(["나는 학교에 간다."] * 3, vocab_size=265)
    >>> large = expand(base, ["너는 학교에서 온다."] * 3, num_added=18)
    >>> large.vocab_size, len(base.encode("학교에서")), len(large.encode("학교에서"))
    (283, 10, 2)
    >>> large.encode("v2.0 — “it's”") == base.encode("v2.0 — “it's”")
    True
    """
    if num_added < 1:
        raise TokenizerError(f"num_added={num_added}. Use 1 or more.")
    growth = growth_of(base)
    continuation = growth.continuation(texts, across_spaces=across_spaces)
    num_pieces = num_added
    while True:
        pieces = continuation.learn(num_pieces, show_progress=show_progress)
        grown = growth.grown(pieces, num_added=num_added)
        reached = grown.vocab_size - base.vocab_size
        if reached == num_added:
            return grown
        if len(pieces) < num_pieces:
            remedy = f"Use {reached} or fewer, or more text" if reached else "Give more text"
            raise TokenizerError(
                f"num_added={num_added}, but the corpus has only {reached} pairs that occur twice. {remedy}."
            )
        num_pieces += 2 * (num_added - reached)  # some pieces are another way to a token that is there


def expand_until(
    base: Tokenizer,
    texts: Iterable[str],
    *,
    factor: float,
    held_out: Sequence[str],
    show_progress: bool = False,
) -> Tokenizer:
    """Return the smallest expansion with which `factor` times as much of `held_out` fits in as many tokens.

    As `expand` in everything else. `held_out` is Korean text that is not in `texts`.

    Raises:
        TokenizerError: as `expand` does; `held_out` has no Hangul syllable, `factor` is not above 1, or is not reached
            with all that the corpus gives, 65,536 tokens at most.
    """
    if not factor > 1:
        raise TokenizerError(f"factor={factor}. Use a number above 1: how many times as much text is to fit.")
    growth = growth_of(base)
    before = tokens_per_syllable(base, held_out)
    pieces = growth.continuation(texts).learn(MOST_ADDED, show_progress=show_progress)
    largest = growth.grown(pieces, num_added=MOST_ADDED)
    reached = before / tokens_per_syllable(largest, held_out)
    if reached < factor:
        raise TokenizerError(
            f"factor={factor}, but all {largest.vocab_size - base.vocab_size} tokens that the corpus gives make "
            f"{reached:.3f}. Use a smaller factor, or more text."
        )

    def factor_with(num_added: int) -> float:
        return before / tokens_per_syllable(growth.grown(pieces, num_added=num_added), held_out)

    sizes = range(1, largest.vocab_size - base.vocab_size + 1)
    return growth.grown(pieces, num_added=sizes[bisect_left(sizes, factor, key=factor_with)])


def tokens_per_syllable(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """What a Hangul syllable of `texts` costs, all else in them included. Raises TokenizerError if they have none."""
    syllables = sum(map(num_syllables, texts))
    if not syllables:
        raise TokenizerError("the held-out text has no Hangul syllable to measure by. Give Korean text.")
    return sum(map(len, tokenizer.encode_batch(texts))) / syllables
