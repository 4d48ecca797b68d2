import json
from collections import Counter
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models

from malmoi.core.errors import TokenizerError
from malmoi.text.readable.bpe import BPE, Pair, learn
from malmoi.text.readable.words import count_words
from malmoi.text.training import train_bpe

REAL = (Path(__file__).parents[3] / "docs" / "engine.ko.md").read_text("utf-8")
# Few characters and much repetition: ties, runs of one letter, pairs that overlap.
FEW = st.text(alphabet="ab가각 ㅋ\n1", max_size=60)


def learned(texts: Sequence[str], num_merges: int) -> list[Pair]:
    return [pair for pair, _ in islice(learn(count_words(texts)), num_merges)]


def fast(texts: Sequence[str], num_merges: int) -> list[Pair]:
    made = train_bpe(texts, vocab_size=256 + num_merges, special_tokens=())
    return [(left, right) for left, right in json.loads(made.backend.to_str())["model"]["merges"]]


@given(st.lists(FEW | st.text(max_size=40), min_size=1, max_size=4))
def test_merges_are_those_of_the_fast_one_in_the_same_order(texts: list[str]) -> None:
    if not "".join(texts).strip():
        with pytest.raises(TokenizerError, match="no text to learn from"):
            fast(texts, 0)
        return
    ours = learned(texts, 60)
    assert ours == fast(texts, len(ours))
    if len(ours) < 60:
        with pytest.raises(TokenizerError, match=f"only {len(ours)} pairs"):
            fast(texts, len(ours) + 1)


def test_merges_of_real_text_are_those_of_the_fast_one() -> None:
    assert learned([REAL], 250) == fast([REAL], 250)


def test_a_tie_goes_to_the_older_symbols() -> None:
    assert [pair for pair, _ in learn({"ba": 1, "ab": 1, "cb": 1})] == [("a", "b"), ("b", "a"), ("c", "b")]


@given(st.dictionaries(st.text("abc", min_size=1, max_size=8), st.integers(1, 5), max_size=6))
def test_each_merge_is_of_a_most_frequent_pair_counted_from_scratch(words: dict[str, int]) -> None:
    """Algorithm 1 of the paper, which keeps no counts from one merge to the next."""
    symbols = {word: list(word) for word in words}
    for pair, count in learn(words):
        pairs: Counter[Pair] = Counter()
        for word, times in words.items():
            for neighbours in pairwise(symbols[word]):
                pairs[neighbours] += times
        assert count == pairs[pair] == max(pairs.values())
        for parts in symbols.values():
            at = 0
            while at < len(parts) - 1:
                if (parts[at], parts[at + 1]) == pair:
                    parts[at : at + 2] = ["".join(pair)]
                at += 1
    assert all(len(parts) <= 1 for parts in symbols.values())


@given(st.data())
def test_ids_are_those_of_the_library_for_any_merges(data: st.DataObject) -> None:
    """Vocabularies that no training makes: a token with many spellings, late merges of early tokens, unknowns."""
    tokens = data.draw(st.lists(st.text("abc", min_size=1, max_size=4), unique=True, max_size=12))
    splits = [(t[:i], t[i:]) for t in tokens for i in range(1, len(t)) if {t[:i], t[i:]} <= {*tokens}]
    merges = data.draw(st.permutations(splits))
    spelled = [f"<0x{byte:02X}>" for byte in range(256)] if data.draw(st.booleans()) else []
    options = {
        "ignore_merges": data.draw(st.booleans()),
        "fuse_unk": data.draw(st.booleans()),
        "unk_token": data.draw(st.sampled_from([None, "<unk>"])),
        "byte_fallback": data.draw(st.booleans()),
    }
    vocab = {token: number for number, token in enumerate(["<unk>", *tokens, *spelled])}
    theirs = tokenizers.Tokenizer(models.BPE(vocab, merges, **options))
    ours = BPE.from_file(json.loads(theirs.to_str())["model"])
    for word in data.draw(st.lists(st.text("abcd한\0", max_size=12), max_size=4)):
        assert ours.encode(word) == theirs.encode(word).ids


def test_steps_end_in_the_symbols_that_are_encoded() -> None:
    model = BPE({"a": 0, "b": 1, "ab": 2, "aba": 3}, {("a", "b"): 0, ("ab", "a"): 1})
    assert model.start("aba") == ["a", "b", "a"]
    assert list(model.steps("aba")) == [(0, ("a", "b"), ["ab", "a"]), (1, ("ab", "a"), ["aba"])]
    assert model.encode("aba") == [3]
    assert model.encode("") == []


@pytest.mark.parametrize("option", [{"dropout": 0.1}, {"end_of_word_suffix": "</w>"}])
def test_a_model_that_is_told_otherwise_is_refused(option: dict[str, object]) -> None:
    made = tokenizers.Tokenizer(models.BPE({"a": 0}, [], **option))
    with pytest.raises(TokenizerError, match=next(iter(option))):
        BPE.from_file(json.loads(made.to_str())["model"])
