import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from malmoi.core.errors import TokenizerError
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training import train_bpe
from malmoi.text.vocabulary.hangul_pieces import has_hangul
from malmoi.text.vocabulary.superwords import add_superwords

TEXTS = ["할 수 있다. 볼 수 있다. 갈 수 없다, it can be done. 할 수 있는 것을 한다."] * 3


@pytest.fixture(scope="module")
def words() -> Tokenizer:
    return train_bpe(TEXTS, vocab_size=300)


@pytest.fixture(scope="module")
def superwords(words: Tokenizer) -> Tokenizer:
    return add_superwords(words, TEXTS, num_added=8)


def test_a_phrase_that_is_frequent_is_one_token(words: Tokenizer, superwords: Tokenizer) -> None:
    pieces = [superwords.token_bytes(i).decode() for i in range(words.vocab_size, superwords.vocab_size)]
    assert " 수 있" in pieces or " 수 있다" in pieces
    assert all(" " in piece[1:] for piece in pieces)
    assert len(superwords.encode(TEXTS[0])) < len(words.encode(TEXTS[0]))
    assert superwords.decode(superwords.encode(TEXTS[0])) == TEXTS[0]


@given(text=st.text(max_size=60))
def test_everything_but_hangul_keeps_its_ids(words: Tokenizer, superwords: Tokenizer, text: str) -> None:
    if not has_hangul(text):
        assert superwords.encode(text) == words.encode(text)


@given(
    text=st.lists(st.sampled_from(["할", "수", "없다", "done", "것을", "2024년"]), max_size=9).map(" ".join)
)
def test_words_that_no_phrase_takes_are_cut_as_before(
    words: Tokenizer, superwords: Tokenizer, text: str
) -> None:
    old = [words.token_bytes(i) for i in words.encode(text)]
    new = [superwords.token_bytes(i) for i in superwords.encode(text)]
    borders = {len(b"".join(old[:i])) for i in range(len(old) + 1)}
    assert {len(b"".join(new[:i])) for i in range(len(new) + 1)} <= borders


def test_the_library_loads_it_with_the_same_ids(superwords: Tokenizer, tmp_path: Path) -> None:
    superwords.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode(TEXTS[0]).ids == superwords.encode(TEXTS[0])


def test_more_than_the_corpus_has_is_refused_with_what_it_has(words: Tokenizer) -> None:
    for num_added in (5_000, 10**11):
        with pytest.raises(
            TokenizerError, match=r"only \d+ pairs that occur twice. Use \d+ or fewer"
        ) as caught:
            add_superwords(words, TEXTS, num_added=num_added)
        largest = int(str(caught.value).split("Use ")[1].split()[0])
        superwords = add_superwords(words, TEXTS, num_added=largest)
        assert superwords.vocab_size == words.vocab_size + largest


def test_a_tokenizer_with_other_cuts_or_with_superwords_is_refused(superwords: Tokenizer) -> None:
    other = json.loads(superwords.backend.to_str()) | {"pre_tokenizer": None}
    for base in (ByteTokenizer(), Tokenizer(json.dumps(other)), superwords):
        with pytest.raises(TokenizerError, match="superwords go over the spaces of KOREAN_PATTERN"):
            add_superwords(base, TEXTS, num_added=1)
