"""The script of a character, read from its name, against the Script property of the `regex` package."""

import doctest
import sys
import unicodedata

import pytest
import regex

from malmoi.text import scripts
from malmoi.text.scripts import UNASSIGNED, characters_of, script_of

SCRIPTS = [
    "Hangul", "Latin", "Greek", "Han", "Hiragana", "Katakana", "Cyrillic", "Arabic", "Hebrew", "Thai", "Devanagari",
    "Bengali", "Tamil", "Georgian", "Armenian", "Khmer", "Mongolian", "Tibetan", "Bopomofo",
]  # fmt: skip
SHARED = regex.compile("MODIFIER|SUPERSCRIPT|ORDINAL|SIGN|TURNED|ROMAN|VERTICAL IDEOGRAPHIC|OLD CHINESE")
"""How letters are called that Unicode has in a script, and we in none: ᴴ, ⁿ, ª, Ω, Ↄ."""
LETTERS = [
    character
    for character in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(character).startswith("L")
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_letters_of_a_script_are_those_of_unicodes_script_property(script: str) -> None:
    is_of_it = regex.compile(rf"\p{{Script={script}}}").match
    theirs = {letter for letter in LETTERS if is_of_it(letter)}
    ours = characters_of()[script.lower()] & set(LETTERS)
    is_common = regex.compile(r"[\p{Script=Common}\p{Script=Inherited}]").match
    missing = {unicodedata.name(letter) for letter in theirs - ours}
    assert all(map(SHARED.search, missing))
    assert len(missing) < 0.15 * len(theirs)
    assert all(map(is_common, ours - theirs))  # the long mark of kana, ー, is of kana to us


@pytest.mark.parametrize("character", list("0９½②.,、。「」!?😀→±°²\n\t \u3000\u0301'\"`\u00b5㎏𝐱"))
def test_digits_punctuation_emoji_and_spaces_are_of_every_script(character: str) -> None:
    assert script_of(character) is None


@pytest.mark.parametrize(
    ("character", "script"),
    [("ㅋ", "hangul"), ("ᄒ", "hangul"), ("ﾡ", "hangul"), ("々", "han"), ("〇", "han"), ("⼀", "han"), ("𠀀", "han"),
     ("ー", "katakana"), ("ｱ", "katakana"), ("Ａ", "latin"), ("é", "latin"), ("٣", "arabic"), ("ิ", "thai"),
     ("\ue000", UNASSIGNED), ("\U000e0fff", UNASSIGNED)],
)  # fmt: skip
def test_what_belongs_to_a_script_is_found_in_every_form(character: str, script: str) -> None:
    assert script_of(character) == script


def test_each_character_is_of_one_script() -> None:
    characters = [character for members in characters_of().values() for character in members]
    assert len(characters) == len(set(characters))


def test_the_example_is_true() -> None:
    assert doctest.testmod(scripts) == (0, 1)
