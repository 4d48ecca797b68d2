"""BPE whose merges stay inside of morphemes while they are learned: 학교 and 에 rather than 학교에.

    texts -> ../morphemes.borders -> texts in parts -> bpe.train_bpe -> an ordinary BPE tokenizer.json

The analyser guides *training* only: the file has no trace of it and encodes as any other BPE does, so a merge of 학
and 교 applies wherever the two meet. Whether it pays is measured in docs/tokenizers.md. Read next: bpe.py.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise, tee

from malmoi.text.morphemes import borders, require_analyser
from malmoi.text.pretokenize import KOREAN_PATTERN
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training.bpe import train_bpe
from malmoi.text.training.special import SPECIAL_TOKENS


def train_morpheme_bpe(
    texts: Iterable[str],
    *,
    vocab_size: int,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    pattern: str = KOREAN_PATTERN,
    show_progress: bool = False,
) -> Tokenizer:
    """`train_bpe` on texts that are cut at the borders of their morphemes, as Park et al. 2020 (arXiv:2010.02534) do.

    *Our difference*: there a text is analysed each time that it is encoded; here only when the merges are learned.
    Needs `malmoi[morphemes]`; raises as `train_bpe` does, and before a text is read if kiwipiepy is not installed.
    """
    require_analyser()
    return train_bpe(
        texts,
        vocab_size=vocab_size,
        special_tokens=special_tokens,
        pattern=pattern,
        split=in_morphemes,
        show_progress=show_progress,
    )


def in_morphemes(texts: Iterable[str]) -> Iterator[list[str]]:
    """Give each text, in NFC, as the list of its morphemes; a space belongs to the one after it.

    >>> list(in_morphemes(["나는 학교에 갔다"]))
    [['나', '는', ' 학교', '에', ' 갔', '다']]
    """
    kept, analysed = tee(unicodedata.normalize("NFC", text) for text in texts)
    for text, starts in zip(kept, borders(analysed), strict=True):
        cuts = [start - text.startswith(" ", start - 1) if start else 0 for start in starts]
        yield [text[start:end] for start, end in pairwise([0, *cuts, len(text)]) if start < end]
