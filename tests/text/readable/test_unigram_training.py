import io
import json
from collections import Counter
from math import log
from pathlib import Path
from random import Random

import pytest
import sentencepiece
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, trainers

from malmoi.core.errors import TokenizerError
from malmoi.text.readable.unigram import Unigram, single
from malmoi.text.readable.unigram_training import (
    Pieces,
    cut,
    digamma,
    expect,
    maximize,
    prune,
    seeds,
    train,
)

REAL = (Path(__file__).parents[3] / "docs" / "engine.ko.md").read_text("utf-8")
ENDINGS = ["", "는", "에서", "를", "으로", "하다", "했습니다"]


@st.composite
def languages(draw: st.DrawFn) -> Counter[str]:
    """The words of a text in a language of roots and endings, where a root is the rarer the later it comes."""
    letters = draw(st.lists(st.characters(categories=["L"]), min_size=8, max_size=20))
    root = st.lists(st.sampled_from(letters), min_size=1, max_size=4).map("".join)
    roots = draw(st.lists(root, min_size=15, max_size=40, unique=True))
    random = draw(st.randoms(use_true_random=True))
    rarity = [1 / (1 + index) for index in range(len(roots))]
    return Counter(
        f"▁{random.choices(roots, rarity)[0]}{random.choice(ENDINGS)}"
        for _ in range(draw(st.integers(300, 600)))
    )


def likelihood(pieces: Pieces, words: Counter[str]) -> float:
    model = Unigram(pieces.items())
    return sum(times * model.log_likelihood(word) for word, times in words.items())


def the_librarys(words: Counter[str], vocab_size: int) -> Pieces:
    made = tokenizers.Tokenizer(models.Unigram())
    trainer = trainers.UnigramTrainer(vocab_size=vocab_size, show_progress=False)
    made.train_from_iterator(words.elements(), trainer)
    return dict(json.loads(made.to_str())["model"]["vocab"])


def sentencepieces(words: Counter[str], vocab_size: int) -> list[tuple[str, float]]:
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(word.removeprefix("▁") for word in words.elements()),
        model_writer=written,
        model_type="unigram",
        vocab_size=vocab_size,
        bos_id=-1,
        eos_id=-1,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="identity",
        split_by_unicode_script=False,
        split_by_number=False,
        num_threads=1,
        minloglevel=2,
    )
    made = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    return [(made.id_to_piece(i), made.get_score(i)) for i in range(made.vocab_size())]


@pytest.mark.parametrize("vocab_size", [550, 700, 900, 1100, 2000])
def test_real_text_teaches_what_sentencepieces_trainer_learns(vocab_size: int) -> None:
    """From three prunings to the one that only drops what is unused: 2,000 pieces are not to be found."""
    words = Counter(f"▁{word}" for word in REAL.split()[:2000])
    assert train(words, vocab_size) == sentencepieces(words, vocab_size)


@settings(max_examples=60)
@given(languages(), st.integers(1, 60))
def test_any_text_is_as_likely_as_with_sentencepieces_trainer(words: Counter[str], num_more: int) -> None:
    vocab_size = len(set("".join(words))) + num_more
    ours, theirs = train(words, vocab_size), sentencepieces(words, vocab_size)
    assert len(ours) <= vocab_size
    assert {*"".join(words)} < dict(ours).keys()
    assert likelihood(dict(ours), words) == pytest.approx(likelihood(dict(theirs), words), rel=0.005)


FEW_LETTERS = st.text("ab가각é", min_size=1, max_size=20).map("▁{}".format)
REPETITIVE = st.dictionaries(FEW_LETTERS, st.integers(1, 9), min_size=1).map(Counter)


@settings(max_examples=60, derandomize=True)
@given(languages() | REPETITIVE, st.integers(1, 60))
def test_pieces_and_scores_are_sentencepieces_to_the_bit(words: Counter[str], num_more: int) -> None:
    """In repetitive words many pieces are equally likely, many are longer than a piece, and 가 and 각 begin alike.

    The same texts each time: one in 20,000 is learned otherwise, since second-best cuts of a piece are equally likely.
    """
    vocab_size = len(set("".join(words))) + num_more
    assert train(words, vocab_size) == sentencepieces(words, vocab_size)


@settings(max_examples=20)
@given(languages() | REPETITIVE)
def test_with_room_for_all_pieces_they_are_sentencepieces_for_any_text(words: Counter[str]) -> None:
    """Where nothing has to go, there is only EM, and what it drops."""
    assert train(words, 100_000) == sentencepieces(words, 100_000)


def test_frequent_words_teach_what_sentencepieces_trainer_learns() -> None:
    """Their pieces together cover more than 2 ** 24 characters, to which 32 bits can count."""
    long = [
        "▁bbbaabaabbabaaaaababbbbaaabaabbabaaaaaaabbaaabbbbaabbabbbbba",
        "▁abbaaaaababbaabaabbbaabbabbbabbaabbabaaaaaabaabbabaaaaaaabbb",
    ]
    words = Counter({long[0]: 5177, long[1]: 5839})
    assert train(words, 9) == sentencepieces(words, 9)


def test_what_is_missed_equally_goes_in_sentencepieces_order() -> None:
    """Roots and their mirror images: rounding decides whose loss is larger, so that even a factor of all counts."""
    random = Random(587)
    letters = "가나다라마바사아자차카타파하"[: random.randint(4, 14)]
    roots = ["".join(random.choice(letters) for _ in range(random.randint(1, 5))) for _ in range(40)]
    roots += [root[::-1] for root in roots]
    num_words = random.choice([300, 1000])
    words = Counter(f"▁{random.choice(roots)}{random.choice(ENDINGS)}" for _ in range(num_words))
    assert train(words, 30) == sentencepieces(words, 30)


def test_the_librarys_trainer_is_another_one() -> None:
    """Nine in ten of its pieces are the same. 900 of ours have 1.09 of its log-likelihood, 1,200 have 0.96 of it.

    Where characters are most of the vocabulary, the library's may never end: so there is no law about any text.
    """
    words = Counter(f"▁{word}" for word in REAL.split()[:2000])
    for vocab_size in (900, 1200):
        ours, theirs = dict(train(words, vocab_size)), the_librarys(words, vocab_size)
        assert len(ours.keys() & theirs.keys()) > 0.8 * vocab_size
        assert likelihood(ours, words) == pytest.approx(likelihood(theirs, words), rel=0.15)


def test_expected_uses_are_those_over_all_ways_to_cut() -> None:
    pieces = {"a": log(0.4), "b": log(0.3), "ab": log(0.2), "ba": log(0.1)}
    # aba = a b a | ab a | a ba
    ways = {("a", "b", "a"): 0.4 * 0.3 * 0.4, ("ab", "a"): 0.2 * 0.4, ("a", "ba"): 0.4 * 0.1}
    total = sum(ways.values())
    expected = {p: 5 * sum(way.count(p) * share / total for way, share in ways.items()) for p in pieces}
    assert expect(pieces, {"aba": 5}) == pytest.approx(expected)


def test_a_round_of_em_never_makes_the_text_less_likely() -> None:
    words = Counter(REAL.split()[:300])
    pieces = dict.fromkeys(seeds(words), -7.0)
    for _ in range(4):
        uses = expect(pieces, words)
        total = sum(uses.values())
        fitted = {piece: log(max(count, 1e-99) / total) for piece, count in uses.items()}
        assert likelihood(fitted, words) > likelihood(pieces, words)
        pieces = fitted


def test_what_is_used_less_than_half_a_time_is_dropped() -> None:
    fitted = maximize({"a": 0.1, "b": 4.5, "ab": 0.4, "ba": 5.0})
    b, ba, total = torch.special.digamma(torch.tensor([4.5, 5.0, 9.5], dtype=torch.float64)).tolist()
    assert fitted == {"b": single(b - single(total)), "ba": single(ba - single(total))}


@given(st.floats(0.5, 1e9))
def test_digamma_is_torchs(x: float) -> None:
    expected = torch.special.digamma(torch.tensor(x, dtype=torch.float64)).item()
    assert digamma(x) == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_a_character_that_was_dropped_counts_as_the_first_piece() -> None:
    pieces = {"a": log(0.5), "b": log(0.3), "bb": log(0.2)}
    assert expect(pieces, {"xb": 3, "a": 1}) == pytest.approx({"a": 4, "b": 3, "bb": 0})


def test_the_piece_that_is_missed_least_goes_first() -> None:
    """`abc` is worth much, `xy` little; both are pieces of characters. `by` is not used, and not missed at all."""
    words = {"abc": 50, "xy": 2, **dict.fromkeys("abcxy", 30)}
    pieces = {p: log(1 / 8) for p in ("a", "b", "c", "x", "y", "abc", "by", "xy")}
    assert pieces.keys() - prune(pieces, words, 8).keys() == {"by"}
    assert pieces.keys() - prune(pieces, words, 6).keys() == {"by", "xy"}
    assert pieces.keys() - prune(pieces, words, 5).keys() == {"by", "xy", "abc"}


def test_the_rarest_are_cut_off_but_no_character() -> None:
    """`c` and `d` were dropped: they get the lowest score, and the rarer one a little more."""
    pieces = {"a": -1.0, "b": -4.0, "ab": -2.0, "abc": -3.0}
    kept = [("a", -1.0), ("ab", -2.0), ("d", single(single(0.0001) - 4.0)), ("b", -4.0), ("c", -4.0)]
    assert cut(pieces, "abcd", 5) == kept


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ({"가나다": 1, "가나하": 1, "마": 1}, {"가나"}),
        ({"가나다": 1, "가나라": 1, "마": 1}, set()),  # In UTF-8 다 and 라 begin with the same byte.
        ({"가나": 2, "마": 1}, set()),  # It always ends a word,
        ({"마": 1, "가나": 2}, {"가나"}),  # or once the text.
    ],
)
def test_seeds_are_what_occurs_twice_and_goes_on_in_two_ways(words: dict[str, int], found: set[str]) -> None:
    assert seeds(words).keys() == {*"".join(words)} | found


def test_seeds_are_characters_by_frequency_then_pieces_by_what_they_cover() -> None:
    weights = {"나": 7, "하": 5, "가": 2, "다": 1, "하나": 10}
    found = seeds({"나가": 1, "가나다": 1, "하나": 5})
    assert [*found] == [*weights]
    assert found == pytest.approx({piece: log(weight / 25) for piece, weight in weights.items()})


def test_a_text_that_uses_no_piece_half_a_time_is_refused() -> None:
    with pytest.raises(TokenizerError, match="too little text"):
        train({"ㅋㅋㅋㅋㅋㅋㅋㅋ": 1}, 8)


@pytest.mark.parametrize("words", [{}, {"가나다": 1}])
def test_no_text_and_too_small_a_vocabulary_are_refused(words: dict[str, int]) -> None:
    with pytest.raises(TokenizerError, match="vocab_size=2: . characters and <unk> all need a piece"):
        train(words, 2)
