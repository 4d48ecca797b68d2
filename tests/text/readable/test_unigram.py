import json
from itertools import combinations, pairwise
from math import exp, log

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models

from malmoi.core.errors import TokenizerError
from malmoi.text.readable.unigram import Unigram

# Few scores, so that paths are equally likely; halves, so that their sums are exact.
PIECES = st.dictionaries(
    st.text("ab한", min_size=1, max_size=4), st.integers(-9, -1).map(lambda n: n / 2), min_size=1, max_size=14
)


def ways(word: str, pieces: dict[str, float]) -> list[tuple[float, list[str]]]:
    """Every way to cut a word into pieces, found by trying all sets of borders, and its score."""
    found = []
    for num_borders in range(len(word)):
        for borders in combinations(range(1, len(word)), num_borders):
            parts = [word[start:end] for start, end in pairwise([0, *borders, len(word)])]
            if pieces.keys() >= {*parts}:
                found.append((sum(pieces[part] for part in parts), parts))
    return found


@given(PIECES, st.booleans(), st.booleans(), st.lists(st.text("ab한\0x", max_size=10), max_size=5))
def test_ids_are_those_of_the_library_for_any_pieces(
    pieces: dict[str, float], has_bytes: bool, byte_fallback: bool, words: list[str]
) -> None:
    """Ties too, and characters that no piece spells."""
    spelled = [(f"<0x{byte:02X}>", -5.0) for byte in range(256)] if has_bytes else []
    vocab = [("<unk>", 0.0), *pieces.items(), *spelled]
    theirs = tokenizers.Tokenizer(models.Unigram(vocab, 0, byte_fallback))
    ours = Unigram.from_file(json.loads(theirs.to_str())["model"])
    for word in words:
        assert ours.encode(word) == theirs.encode(word).ids


@given(PIECES, st.text("ab한", min_size=1, max_size=7), st.integers(1, 5))
def test_paths_are_the_likeliest_of_all_ways_to_cut_a_word(
    pieces: dict[str, float], word: str, num_paths: int
) -> None:
    pieces |= dict.fromkeys("ab한", -6.0)
    paths = Unigram(pieces.items()).paths(word, num_paths)
    expected = sorted((score for score, _ in ways(word, pieces)), reverse=True)
    assert [path.score for path in paths] == expected[:num_paths]
    cut = [[span.piece for span in path.spans] for path in paths]
    assert all((path.score, parts) in ways(word, pieces) for path, parts in zip(paths, cut, strict=True))
    assert len({tuple(parts) for parts in cut}) == len(cut)


@given(PIECES, st.text("ab한", min_size=1, max_size=7))
def test_the_likelihood_of_a_word_is_the_sum_over_all_ways(pieces: dict[str, float], word: str) -> None:
    pieces |= dict.fromkeys("ab한", -6.0)
    total = log(sum(exp(score) for score, _ in ways(word, pieces)))
    assert Unigram(pieces.items()).log_likelihood(word) == pytest.approx(total, rel=1e-12)


def test_of_equally_likely_ways_the_one_with_the_longer_last_piece_goes_first() -> None:
    pieces = [("a", -1.0), ("b", -1.0), ("c", -1.5), ("d", -1.5), ("cd", -1.0), ("abc", -1.5), ("ab", -2.0)]
    cuts = [[span.piece for span in path.spans] for path in Unigram(pieces).paths("abcd", 3)]
    assert cuts == [["ab", "cd"], ["a", "b", "cd"], ["abc", "d"]]
    for cut in cuts:  # the library agrees about any two of them
        fewer = [
            ("<unk>", 0.0),
            *((piece, score) for piece, score in pieces if piece in cut or piece in cuts[-1]),
        ]
        theirs = tokenizers.Tokenizer(models.Unigram(fewer, 0, False)).encode("abcd").tokens
        assert theirs == cut


def test_the_empty_word_has_one_path_and_no_ids() -> None:
    model = Unigram([("a", -1.0)])
    assert (model.encode(""), model.paths("", 2), model.log_likelihood("")) == ([], [(0.0, ())], 0.0)


def test_a_character_that_nothing_spells_is_refused() -> None:
    with pytest.raises(TokenizerError, match="no piece spells '나다'"):
        Unigram([("가", -1.0)]).encode("가나다")
