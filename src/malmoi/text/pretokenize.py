r"""Where a text is cut before BPE merges: no token crosses a cut.

    str -> normalise -> PRETOKENISE -> merge -> ids

The pattern is the one part of a byte-level BPE that knows about writing systems, so it decides what the
merges can learn. It is tried at each position, alternatives from first to last, and together they match
every character. Why these cuts, with measurements: docs/decisions/0002-pretokenisation.md.
Read next: training.py, which puts the pattern into a tokenizer.json.
"""

from tokenizers import Regex, pre_tokenizers
from tokenizers.pre_tokenizers import PreTokenizer

from malmoi.text.hangul import COMPATIBILITY_JAMO, LEADING, SYLLABLES, TRAILING, VOWELS

_HANGUL = SYLLABLES + LEADING + VOWELS + TRAILING

KOREAN_PATTERN = "|".join(
    (
        r"'(?:[sdmtSDMT]|ll|LL|ve|VE|re|RE)(?!\p{L})",  # English clitics: it|'s
        rf" ?[{_HANGUL}][{_HANGUL}\p{{M}}]*",  # Hangul and the space before it: Python|은, 나는| 학교에
        rf" ?[{COMPATIBILITY_JAMO}]+",  # letters that stand alone: 하하|ㅋㅋㅋ
        rf" ?(?:(?![{_HANGUL}{COMPATIBILITY_JAMO}])[\p{{L}}\p{{M}}])+",  # a word of any other script
        r"\p{N}{1,4}",  # digits by four, as Korean counts (만, 억), so that a year stays whole
        r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",  # punctuation and symbols, with the line end after them
        r"\s*[\r\n]+",  # line ends
        r"\s+(?!\S)",  # spaces, except the last one: it belongs to the next word
        r"\s+",
    )
)
"""The pattern that `train_bpe` uses unless told otherwise. It reads the same in Oniguruma, PCRE,
Python's `regex` and JavaScript's `u` mode: no inline flags, no script names, no hexadecimal escapes."""


def split_to_bytes(pattern: str) -> PreTokenizer:
    """Cut by `pattern`, then write each byte as one printable character, the alphabet of a byte-level BPE.

    >>> [piece for piece, _ in split_to_bytes(KOREAN_PATTERN).pre_tokenize_str("in 20261")]
    ['in', 'Ġ', '2026', '1']
    """
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
