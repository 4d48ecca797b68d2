"""A comparison small enough to check by hand: bytes against characters, on two genres."""

from unicodedata import normalize

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.microscope.analysed import Analysed
from malmoi.text.microscope.comparison import Comparison, Material, examine
from malmoi.text.microscope.genre import Genre
from malmoi.text.microscope.prices import PriceTable
from malmoi.text.tokenizer import Tokenizer

NEWS = Genre("뉴스", ("말모이는 <b>우리말</b>을 모으는 일이었다. 끝", "나는 학교에 간다."))
ENGLISH = Genre("english", ("The dictionary was never printed, for 28 years.",))


def characters() -> Tokenizer:
    """One token a character of the genres, and `<unk>` for any other."""
    return _of_alphabet({letter for genre in (NEWS, ENGLISH) for text in genre.texts for letter in text})


def letters() -> Tokenizer:
    """One token a letter: syllables are taken apart."""
    every = map(chr, range(ord("가"), ord("힣") + 1))
    return _of_alphabet(
        {letter for one in every for letter in normalize("NFD", one)} | {" ", "."}, is_nfd=True
    )


def _of_alphabet(alphabet: set[str], *, is_nfd: bool = False) -> Tokenizer:
    vocab = {"<unk>": 0} | {character: 1 + number for number, character in enumerate(sorted(alphabet))}
    made = tokenizers.Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    if is_nfd:
        made.normalizer = normalizers.NFD()
    made.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    return Tokenizer(made.to_str())


@pytest.fixture(scope="session")
def comparison() -> Comparison:
    """Both tokenizers on both genres, one pair and one analysed sentence."""
    material = Material(
        genres=(NEWS, ENGLISH),
        pairs=(("나는 학교에 간다.", "I go to school."),),
        analysed=(
            Analysed(
                text="나는 학교에 간다.",
                borders=frozenset({0, 1, 3, 5, 7, 9}),
                words=((0, 2), (3, 6), (7, 9)),
            ),
        ),
        morphemes_from="a test",
    )
    made = {"bytes": ByteTokenizer(), "<글자>": characters()}
    return Comparison(
        material=material,
        tokenizers=tuple(examine(name, tokenizer, material) for name, tokenizer in made.items()),
        prices=PriceTable.load(),
    )
