import sys
from itertools import pairwise

import pytest

from malmoi.core.errors import TokenizerError
from malmoi.text import morphemes
from malmoi.text.morphemes import borders
from malmoi.text.training import train_morpheme_bpe


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("나는 학교에 갔다", ["나", "는 ", "학교", "에 ", "갔", "다"]),
        ("했다", ["했", "다"]),
        ("👨‍👩‍👧 가족은", ["👨‍👩‍👧 ", "가족", "은"]),
        ("", []),
        (" \n", []),
    ],
)
def test_a_border_is_where_a_morpheme_begins_between_two_characters(text: str, cut: list[str]) -> None:
    [starts] = borders([text])
    assert [text[a:b] for a, b in pairwise([*starts, len(text)])] == cut


def test_texts_are_answered_in_their_order() -> None:
    texts = ["학교에 " * number for number in range(50)]
    assert [len(starts) for starts in borders(iter(texts))] == [2 * number for number in range(50)]


def test_without_the_analyser_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kiwipiepy", None)
    morphemes._analyser.cache_clear()
    with pytest.raises(TokenizerError, match=r"malmoi\[morphemes\]"):
        next(borders(["학교에"]))


def test_without_the_analyser_no_text_is_read_before_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kiwipiepy", None)
    morphemes._analyser.cache_clear()
    corpus = iter(["학교에 간다"] * 3)
    with pytest.raises(TokenizerError, match=r"malmoi\[morphemes\]"):
        train_morpheme_bpe(corpus, vocab_size=270)
    assert len(list(corpus)) == 3
