r"""Where a text is cut before BPE merges: no token crosses a cut.

    str -> normalise -> PRETOKENISE -> merge -> ids

The pattern is the one part of a byte-level BPE that knows about writing systems, so it decides what the
merges can learn. It is tried at each position, alternatives from first to last, and together they match
every character. Why these cuts, with measurements: docs/decisions/0002-pretokenisation.md.
Read next: training/, which puts the pattern into a tokenizer.json.
"""

from tokenizers import Regex, pre_tokenizers
from tokenizers.pre_tokenizers import PreTokenizer

from malmoi.text.hangul import COMPATIBILITY_JAMO, LEADING, SYLLABLES, TRAILING, VOWELS

_HANGUL = SYLLABLES + LEADING + VOWELS + TRAILING

HANGUL_WORD = rf" ?[{_HANGUL}][{_HANGUL}\p{{M}}]*"
"""The part of `KOREAN_PATTERN` that `superwords.py` repeats."""

_CLITICS = r"'(?:[sdmtSDMT]|ll|LL|ve|VE|re|RE)(?!\p{L})"  # it|'s
_LONE_JAMO = rf" ?[{COMPATIBILITY_JAMO}]+"  # letters that stand alone: 하하|ㅋㅋㅋ
_OTHER_LETTERS = rf"(?:(?![{_HANGUL}{COMPATIBILITY_JAMO}])[\p{{L}}\p{{M}}])+"  # a word of any other script
_DIGITS = r"\p{N}{1,4}"  # by four, as Korean counts (만, 억), so that a year stays whole
_MARK = r"[^\s\p{L}\p{M}\p{N}]"  # punctuation and symbols
_MARKS_AND_SPACES = (
    rf" ?{_MARK}+[\r\n]*",  # with the line end after them
    r"\s*[\r\n]+",  # line ends
    r"\s+(?!\S)",  # spaces, except the last one: it belongs to the next word
    r"\s+",
)

KOREAN_PATTERN = "|".join(
    (
        _CLITICS,
        HANGUL_WORD,  # Hangul and the space before it: Python|은, 나는| 학교에
        _LONE_JAMO,
        f" ?{_OTHER_LETTERS}",
        _DIGITS,
        *_MARKS_AND_SPACES,
    )
)
"""The pattern that `train_bpe` uses unless told otherwise. It reads the same in Oniguruma, PCRE,
Python's `regex` and JavaScript's `u` mode: no inline flags, no script names, no hexadecimal escapes."""

COMPACT_PATTERN = "|".join(
    (
        _CLITICS,
        rf"{_MARK}[{_HANGUL}][{_HANGUL}\p{{M}}]*",  # a word takes the mark before it: ’을, (서울
        HANGUL_WORD,
        _LONE_JAMO,
        f"(?: |{_MARK})?{_OTHER_LETTERS}",
        f" ?{_DIGITS}",  # and a number its space
        *_MARKS_AND_SPACES,
    )
)
"""For fewer tokens of prose, at the price of more that are parts of a character (docs/tokenizers.md)."""


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
