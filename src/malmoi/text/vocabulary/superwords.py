"""Tokens across spaces: the second stage of a training (SuperBPE, Liu et al. 2025, arXiv:2503.13423).

    texts -> train_bpe -> Tokenizer -> ADD_SUPERWORDS -> Tokenizer, whose tokens may hold several eojeols

The first stage learns words, the second goes on without the cuts at spaces: 할 수 있다 becomes one token. It is an
expansion with another cut. Read next: `expand.py`, `pretokenize.py`.
"""

import json
from collections.abc import Iterable

from malmoi.core.errors import TokenizerError
from malmoi.text.pretokenize import HANGUL_WORD
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.vocabulary.expand import expand


def add_superwords(
    base: Tokenizer, texts: Iterable[str], *, num_added: int, show_progress: bool = False
) -> Tokenizer:
    """Return `base` with `num_added` tokens more, learned on stretches of Hangul that are not cut at spaces.

    `base` is a byte-level tokenizer of ours, smaller than wanted by `num_added`: its words stay as they are, since the
    new merges come after all of its own. The second stage learns words too, where they are more frequent than phrases.
    Our difference from the paper: only Hangul words are joined, with one space between, so that everything else keeps
    its ids.

    Raises:
        TokenizerError: as `expand` does; `base` does not cut words by `KOREAN_PATTERN`.

    >>> from malmoi.text.training import train_bpe
    >>> words = train_bpe(["할 수 있다. 볼 수 있다."] * 3, vocab_size=272)
    >>> superwords = add_superwords(words, ["할 수 있다. 볼 수 있다."] * 3, num_added=3)
    >>> [superwords.token_bytes(i).decode() for i in superwords.encode("할 수 있다")]
    ['할 수 있다']
    """
    base.require_stated_ids()
    content = json.loads(base.backend.to_str())
    cuts = (content["pre_tokenizer"] or {}).get("pretokenizers", [])
    patterns = [cut["pattern"] for cut in cuts if cut["type"] == "Split" and "Regex" in cut["pattern"]]
    alternatives = patterns[0]["Regex"].split("|") if len(patterns) == 1 else []
    if HANGUL_WORD not in alternatives:
        raise TokenizerError(
            "superwords go over the spaces of KOREAN_PATTERN, and this tokenizer does not cut by it. Use one that "
            "`malmoi tokenizer train` made and that has none yet."
        )
    alternatives[alternatives.index(HANGUL_WORD)] = f"(?:{HANGUL_WORD})+"
    patterns[0]["Regex"] = "|".join(alternatives)
    uncut = Tokenizer(json.dumps(content, ensure_ascii=False), base.config)
    return expand(uncut, texts, num_added=num_added, across_spaces=True, show_progress=show_progress)
