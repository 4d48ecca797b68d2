r"""The Hangul ranges of Unicode: which characters are syllables, and which are parts of one.

A syllable has two spellings, equal to a reader and different to a machine:

    한  =  U+D55C                     composed (NFC), one of the 11,172 from 가 to 힣
        =  ᄒ U+1112 + ᅡ U+1161 + ᆫ U+11AB   conjoining jamo (NFD): leading, vowel, trailing

Old Hangul has the second spelling only. Compatibility jamo (ㅋㅋ, ㅠㅠ) are letters that stand alone and
never join. The ranges are strings for the inside of a regular-expression class; they hold the characters
themselves, not escapes, so that every regex dialect reads them alike.
Read next: pretokenize.py and stream.py, which use them.
"""

SYLLABLES = "가-힣"
LEADING = "\u1100-\u115f\ua960-\ua97c"
VOWELS = "\u1160-\u11a7\ud7b0-\ud7c6"
TRAILING = "\u11a8-\u11ff\ud7cb-\ud7fb"
COMPATIBILITY_JAMO = "\u3131-\u318e"


def num_syllables(text: str) -> int:
    """Count the composed syllables of `text`: the unit in which Korean readers measure length.

    >>> num_syllables("말모이 ㅋㅋ v2")
    3
    """
    return sum("가" <= character <= "힣" for character in text)
