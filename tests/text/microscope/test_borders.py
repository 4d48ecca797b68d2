import re
import unicodedata

import pytest
import tokenizers

from malmoi.core.errors import DataError
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.microscope.analysed import Analysed, analyse, read_analysed
from malmoi.text.microscope.borders import Agreement, agree
from malmoi.text.tokenizer import Tokenizer

from .conftest import characters, letters

TEXT = Analysed(
    text="나는 학교에 간다.", borders=frozenset({0, 1, 3, 5, 7, 9}), words=((0, 2), (3, 6), (7, 9))
)
"""나+는 학교+에 가+ㄴ다: the last border lies inside 간, where nobody can cut."""


def test_a_tokenizer_of_characters_finds_every_border_and_more() -> None:
    found = agree(characters(), [TEXT])
    assert found.recall == 1.0
    assert found.num_token_borders == sum(end - start - 1 for start, end in TEXT.words)
    assert found.precision == found.num_morpheme_borders / found.num_token_borders


@pytest.mark.slow
def test_the_analyser_judges_every_run_of_syllables() -> None:
    [analysed] = analyse([TEXT.text])
    assert analysed == TEXT


def test_borders_are_where_the_library_says_a_token_ends(
    imported: tuple[Tokenizer, tokenizers.Tokenizer],
) -> None:
    """`offsets` are the library's own account of what a token covers, in characters."""
    ours, theirs = imported
    texts = ["나는 학교에 간다", "말을 모으는 일이다", "한국어 토큰은 글자보다 크고"]
    analysed = [
        Analysed(text=text, borders=frozenset(), words=tuple(m.span() for m in re.finditer(r"\S+", text)))
        for text in texts
    ]
    expected = num_lost = 0
    for one in analysed:
        encoding = theirs.encode(one.text, add_special_tokens=False)
        if ours.decode(ours.encode(one.text)).split() != one.text.split():
            num_lost += 1
        elif len(encoding) != len(set(encoding.offsets)):
            pytest.skip("the library's offsets do not tell the bytes of a character apart")
        else:
            starts = {start for start, _ in encoding.offsets} - {one.text.find(" ")}
            expected += sum(a < start < b for a, b in one.words for start in starts)
    found = agree(ours, analysed)
    assert (found.num_token_borders, found.num_lost) == (expected, num_lost)


def test_a_border_inside_a_syllable_counts_against_precision_only() -> None:
    found = agree(ByteTokenizer(), [TEXT])
    assert found == Agreement(num_common=2, num_token_borders=18, num_morpheme_borders=2, num_lost=0)
    assert (found.precision, found.recall, found.f1) == (2 / 18, 1.0, 4 / 20)


def test_what_is_cut_at_a_space_is_no_merit(korean: Tokenizer) -> None:
    words = Analysed(text="나는 학교에", borders=frozenset({0, 3}), words=((0, 2), (3, 6)))
    assert agree(korean, [words]).num_morpheme_borders == 0
    assert agree(korean, [words]).recall is None


def test_a_text_that_is_lost_is_counted_and_left_out() -> None:
    lost = Analysed(text="꿻은 새다", borders=frozenset({0, 1, 3, 4}), words=((0, 2), (3, 5)))
    assert agree(characters(), [lost]) == Agreement(
        num_common=0, num_token_borders=0, num_morpheme_borders=0, num_lost=1
    )
    assert agree(characters(), [lost]).f1 is None


def row(*tokens: list[str], text: str | None = None) -> dict[str, object]:
    return {"text": text or " ".join(token[0] for token in tokens), "tokens": list(tokens)}


@pytest.mark.parametrize(
    ("token", "borders", "is_judged"),
    [
        (["고향은", "고향+은"], {0, 2}, True),
        (["서울입니다", "서울+이+ㅂ니다"], {0, 2}, True),  # no place to cut 입
        (["갔다", "가+았+다"], set(), False),  # 가 + 았 is 갔, not 가았
        (["듣고", "듣+고"], {0, 1}, True),
        (["걸어서", "걷+어서"], set(), False),  # an irregular verb is spelled otherwise
        (["간다", "가+ㄴ다"], {0}, True),
        (["20대", "20+대"], set(), False),  # not a run of syllables
        (["나", "나"], {0}, True),
    ],
)
def test_the_borders_of_a_treebank_are_those_that_its_spelling_shows(
    token: list[str], borders: set[int], is_judged: bool
) -> None:
    analysed = read_analysed(row(token), "file:1")
    assert analysed.borders == borders
    assert analysed.words == (((0, len(token[0])),) if is_judged else ())


def test_words_are_found_in_the_text_in_their_order() -> None:
    analysed = read_analysed(
        row(["나는", "나+는"], ["나는", "날+는"], [".", "."], text="나는  나는."), "file:1"
    )
    assert analysed.words == ((0, 2),)
    assert analysed.borders == {0, 1}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": "가"}, "file:1: a row with morphemes .* has the fields text"),
        ({}, "has the fields none"),
        ({"text": "가", "tokens": ["가"]}, "the token '가' is not"),
        ({"text": "가", "tokens": [["가", 1]]}, "is not"),
        ({"text": "가", "tokens": [["나", "나"]]}, "the token '나' is not in the text after character 0"),
    ],
)
def test_a_row_that_is_no_treebanks_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_analysed(fields, "file:1")


def test_letters_find_every_border_even_those_inside_syllables() -> None:
    """A tokenizer that takes syllables apart cuts at every syllable, and twice inside most."""
    found = agree(letters(), [TEXT])
    assert (found.recall, found.num_lost) == (1.0, 0)
    words = [TEXT.text[start:end] for start, end in TEXT.words]
    assert found.num_token_borders == sum(len(unicodedata.normalize("NFD", word)) - 1 for word in words)
