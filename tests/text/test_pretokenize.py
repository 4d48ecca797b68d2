import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from malmoi.text.hangul import num_syllables
from malmoi.text.pretokenize import COMPACT_PATTERN, KOREAN_PATTERN, split_to_bytes

SPLIT = pre_tokenizers.Split(Regex(KOREAN_PATTERN), "isolated")
PIECES = [
    "한국",
    "은",
    "각",
    "ᄒᆞᆫ",
    "ᄀ",
    "ㅋㅋ",
    "ㅠ",
    "Python",
    "é",
    "e\u0301",
    "漢字",
    "かな",
    "п",
    "ㄱ",
    "12345",
    "Ⅷ",
    "½",
]
MARKS = [
    " ",
    "  ",
    "\t",
    "\n",
    "\r\n",
    "\u3000",
    "'",
    "'s",
    "'LL",
    ".",
    "...",
    "(",
    "「",
    "「」",
    "😀",
    "🇰🇷",
    "\u200d",
    "_",
]
texts = st.lists(st.sampled_from(PIECES + MARKS)).map("".join)


def cut(text: str) -> list[str]:
    return [piece for piece, _ in SPLIT.pre_tokenize_str(text)]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("나는 학교에 간다.", ["나는", " 학교에", " 간다", "."]),
        ("Python은 2024년에", ["Python", "은", " ", "2024", "년에"]),
        ("정말ㅋㅋㅋ ㅠㅠ", ["정말", "ㅋㅋㅋ", " ㅠㅠ"]),
        ("it's we'll IT'S 'tis", ["it", "'s", " we", "'ll", " IT", "'S", " '", "tis"]),
        ("1234567원", ["1234", "567", "원"]),
        ("(말모이)를 「하다」", ["(", "말모이", ")", "를", " 「", "하다", "」"]),
        ("a  b\n\n  c", ["a", " ", " b", "\n\n", " ", " c"]),
        ("끝.\n\n다음", ["끝", ".\n\n", "다음"]),
        ("大韓民國의 ナ", ["大韓民國", "의", " ナ"]),
        ("나랏말ᄊᆞ미", ["나랏말ᄊᆞ미"]),
        ("cafe\u0301 é", ["cafe\u0301", " é"]),
    ],
)
def test_where_a_text_is_cut(text: str, pieces: list[str]) -> None:
    assert cut(text) == pieces


@given(st.text() | texts)
def test_the_pieces_are_the_text(text: str) -> None:
    assert "".join(cut(text)) == text


@given(texts)
def test_another_regex_engine_cuts_alike(text: str) -> None:
    assert cut(text) == regex.findall(KOREAN_PATTERN, text)


@given(st.text() | texts)
def test_every_character_is_matched_by_some_alternative(text: str) -> None:
    """`Split` would pass what the pattern leaves out, but as one piece of any length."""
    removed = pre_tokenizers.Split(Regex(KOREAN_PATTERN), "removed")
    assert removed.pre_tokenize_str(text) == []


@given(texts)
def test_hangul_and_other_scripts_share_no_piece(text: str) -> None:
    for piece in cut(text):
        if num_syllables(piece):
            assert not regex.search(r"[ㄱ-ㆎ]|(?!\p{Hangul})\p{L}|\p{N}|[.(「」]", piece)


@given(texts)
def test_bytes_are_written_in_the_byte_level_alphabet(text: str) -> None:
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    pieces = [piece for piece, _ in split_to_bytes(KOREAN_PATTERN).pre_tokenize_str(text)]
    assert sum(map(len, pieces)) == len(text.encode())
    assert alphabet.issuperset("".join(pieces))
    assert len(pieces) == len(cut(text))


@given(texts)
def test_the_compact_pattern_loses_no_character(text: str) -> None:
    split = pre_tokenizers.Split(Regex(COMPACT_PATTERN), "isolated")
    assert "".join(piece for piece, _ in split.pre_tokenize_str(text)) == text
    assert [piece for piece, _ in split.pre_tokenize_str(text)] == regex.findall(COMPACT_PATTERN, text)


def test_the_compact_pattern_joins_a_mark_to_its_word_and_a_space_to_its_number() -> None:
    pieces = ["2", "명", " 2019", "년", " ‘", "말모이", "’를", " (", "NASA", ")", " 그", " it", "'s"]
    split = pre_tokenizers.Split(Regex(COMPACT_PATTERN), "isolated")
    assert [piece for piece, _ in split.pre_tokenize_str("".join(pieces))] == pieces
