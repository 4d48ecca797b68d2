import re
import unicodedata

import pytest

from malmoi.text import hangul


@pytest.mark.parametrize(
    ("name", "characters"),
    [
        ("HANGUL SYLLABLE ", hangul.SYLLABLES),
        ("HANGUL CHOSEONG ", hangul.LEADING),
        ("HANGUL JUNGSEONG ", hangul.VOWELS),
        ("HANGUL JONGSEONG ", hangul.TRAILING),
        (("HANGUL LETTER ", "HANGUL FILLER"), hangul.COMPATIBILITY_JAMO),
    ],
)
def test_a_range_holds_the_characters_that_unicode_names_so(
    name: str | tuple[str, ...], characters: str
) -> None:
    everything = "".join(map(chr, range(0x110000)))
    assert re.findall(f"[{characters}]", everything) == [
        character for character in everything if unicodedata.name(character, "").startswith(name)
    ]


def test_a_range_is_written_without_escapes() -> None:
    for characters in (hangul.SYLLABLES, hangul.LEADING, hangul.VOWELS, hangul.TRAILING):
        assert "\\" not in characters


def test_only_composed_syllables_are_counted() -> None:
    assert hangul.num_syllables("".join(map(chr, range(0x110000)))) == 11_172
    assert hangul.num_syllables("가힣 ㅋㅋ v2 " + unicodedata.normalize("NFD", "말")) == 2
