import unicodedata
from dataclasses import fields

import pytest
import tokenizers
from tokenizers import decoders

from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.microscope.counts import SYLLABLES, Counts, Coverage, count, count_pairs, cover, is_partial
from malmoi.text.microscope.genre import Genre
from malmoi.text.tokenizer import Tokenizer

from .conftest import ENGLISH, NEWS, characters, letters

MIXED = Genre("mixed", ("나는 학교에 간다. ㅋㅋ 2024년", "Python은 언어이고, it's one", "한국어 토큰"))


def test_tokens_are_counted_as_the_library_gives_them(
    imported: tuple[Tokenizer, tokenizers.Tokenizer],
) -> None:
    ours, theirs = imported
    counts = count(ours, MIXED)
    expected = [len(theirs.encode(text, add_special_tokens=False)) for text in MIXED.texts]
    decomposed = [unicodedata.normalize("NFD", text) for text in MIXED.texts]
    assert counts.num_tokens == sum(expected)
    assert counts.num_nfd_tokens == sum(
        len(theirs.encode(text, add_special_tokens=False)) for text in decomposed
    )


def test_the_ratios_are_those_of_the_text() -> None:
    counts = count(ByteTokenizer(), Genre("reviews", ("재미있다 ㅋㅋ", "Good!")))
    assert counts.tokens_per_syllable == (4 * 3 + 1 + 2 * 3 + 5) / 4
    assert counts.characters_per_token == 12 / 24
    assert counts.tokens_per_eojeol == 24 / 3
    assert counts.partial_share == (4 * 3 + 2 * 3) / 24
    assert counts.exact_share == 1


def test_nfd_costs_nothing_where_the_tokenizer_composes(korean: Tokenizer) -> None:
    assert count(korean, MIXED).nfd_ratio == 1.0


def test_nfd_blows_up_where_it_does_not() -> None:
    """각 is 3 bytes, and 9 in jamo; 가 is 3, and 6."""
    assert count(ByteTokenizer(), Genre("syllables", ("각가",))).nfd_ratio == 15 / 6


def test_what_a_tokenizer_loses_is_seen() -> None:
    counts = count(characters(), Genre("both", (*NEWS.texts, "꿻")))
    assert counts.exact_share == 2 / 3


def test_a_genre_that_is_not_korean_has_no_figures_a_syllable() -> None:
    counts = count(ByteTokenizer(), ENGLISH)
    assert counts.tokens_per_syllable is counts.tokens_per_eojeol is None
    assert counts.characters_per_token == 1.0


def test_counts_of_two_genres_are_those_of_the_genre_of_both(korean: Tokenizer) -> None:
    both = Genre("both", (*NEWS.texts, *MIXED.texts))
    assert count(korean, NEWS) + count(korean, MIXED) == count(korean, both)


def test_nothing_is_divided_by_nothing() -> None:
    empty = Counts(**{field.name: 0 for field in fields(Counts)})
    assert empty.tokens_per_syllable is empty.characters_per_token is empty.nfd_ratio is None
    assert count_pairs(ByteTokenizer(), []).ratio is None


@pytest.mark.parametrize(
    "piece", ["한", " 학교", "ㅋㅋ", "a", "", "👨‍👩‍👧", unicodedata.normalize("NFD", "한국")]
)
def test_a_token_of_whole_characters_and_syllables_is_not_partial(piece: str) -> None:
    assert not is_partial(piece.encode())


@pytest.mark.parametrize(
    "piece", [b"\xed\x95", b"\x9c", b" \xed", *map(str.encode, ("ᄒ", "ᅡ", "ᆫ", "ᆫ국", "하ᄒ"))]
)
def test_a_token_with_a_half_of_one_is_partial(piece: bytes) -> None:
    assert is_partial(piece)


def test_the_surcharge_is_korean_tokens_by_english_tokens(korean: Tokenizer) -> None:
    pairs = [("나는 학교에 간다", "I go to school"), ("한국어", "Korean")]
    counts = count_pairs(korean, pairs)
    assert counts.num_korean == sum(len(korean.encode(ko)) for ko, _ in pairs)
    assert counts.num_english == sum(len(korean.encode(en)) for _, en in pairs)
    assert counts.ratio == counts.num_korean / counts.num_english


def test_there_are_11172_syllables() -> None:
    assert len(SYLLABLES) == 11_172
    assert (SYLLABLES[0], SYLLABLES[-1]) == ("가", "힣")
    assert all(len(unicodedata.normalize("NFD", syllable)) > 1 for syllable in SYLLABLES)


def test_a_syllable_is_covered_if_the_vocabulary_has_it(korean: Tokenizer) -> None:
    vocabulary = {korean.token_bytes(token_id) for token_id in range(korean.vocab_size)}
    covered = cover(korean)
    assert covered.num_single == len(vocabulary & {syllable.encode() for syllable in SYLLABLES}) > 0
    assert covered.num_exact == 11_172


def test_a_closed_alphabet_covers_its_own_syllables_only() -> None:
    known = {character for text in NEWS.texts for character in text if "가" <= character <= "힣"}
    covered = cover(characters())
    assert covered.num_single == covered.num_exact == len(known)


def test_a_mark_of_the_words_start_does_not_count(imported: tuple[Tokenizer, tokenizers.Tokenizer]) -> None:
    """The library's own tokens of each syllable, marks of spelling taken off."""
    ours, theirs = imported
    if isinstance(theirs.decoder, decoders.ByteLevel):
        pytest.skip("byte-level tokens are spelled in another alphabet")
    encoded = [theirs.encode(one, add_special_tokens=False).ids for one in SYLLABLES]
    spelled = [[theirs.id_to_token(token_id) for token_id in ids] for ids in encoded]
    stripped = [[t.strip("▁").removeprefix("##") for t in tokens if t.strip("▁")] for tokens in spelled]
    expected = sum(tokens == [one] for tokens, one in zip(stripped, SYLLABLES, strict=True))
    assert cover(ours).num_single == expected


def test_letters_cover_the_syllables_that_they_spell_and_show_none_of_them_whole() -> None:
    assert cover(letters()) == Coverage(num_single=0, num_exact=11_172)
    counts = count(letters(), Genre("word", ("각산",)))
    assert (counts.num_tokens, counts.partial_share, counts.nfd_ratio, counts.exact_share) == (
        6,
        1.0,
        1.0,
        1.0,
    )
