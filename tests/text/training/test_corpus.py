"""The laws of what is read before anything is learned: bounded memory, and the common words are all there."""

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from malmoi.core.errors import TokenizerError
from malmoi.text import training
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training import corpus
from malmoi.text.training.corpus import CommonWords, common_words, stretches

LETTERS = "가나다라마바사아자차"
TEXTS = st.lists(st.text(alphabet="가나다 \n\u3000") | st.text())
FROM_COMMON_WORDS: dict[str, Callable[..., Tokenizer]] = {
    "bpe": training.train_bpe,
    "character bpe": training.train_character_bpe,
    "unigram": training.train_unigram,
    "wordpiece": training.train_wordpiece,
    "morphemes": training.train_morpheme_bpe,
}
SIZES = {"bpe": 290, "character bpe": 400, "unigram": 376, "wordpiece": 245, "morphemes": 290}


@pytest.fixture(scope="module", autouse=True)
def little_room() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "MAX_CHARACTERS", 160)
        yield


def word(number: int) -> str:
    """Four letters, others for each number up to 9,999."""
    return "".join(LETTERS[int(digit)] for digit in f"{number:04}")


def words_of(texts: list[str]) -> Counter[str]:
    return Counter(found for text in texts for found in text.split())


@given(TEXTS, st.integers(1, 60))
def test_different_words_never_have_more_characters_than_there_is_room_for(
    texts: list[str], room: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "MAX_CHARACTERS", room)
        words = CommonWords()
        for text in texts:
            words.add(text)
            assert sum(map(len, words.counts)) <= room
        everything = words_of(texts)
        if everything and not words.counts:
            with pytest.raises(TokenizerError, match="every word"), common_words(texts):
                pass
            return
        with common_words(texts) as again:
            learned = words_of(list(again))
    assert sum(map(len, learned)) <= room
    assert words.counts <= everything
    assert learned == {found: everything[found] for found in words.counts}
    if sum(map(len, everything)) <= room:
        assert words.are_all
        assert words.counts == everything


@given(TEXTS)
def test_texts_with_few_words_come_back_as_they_are(texts: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "MAX_CHARACTERS", 2**24)
        with common_words(iter(texts)) as again:
            assert list(again) == texts


@given(st.text(alphabet="가나 \n"), st.sets(st.text(alphabet="가나", min_size=1)))
def test_a_stretch_is_a_run_of_common_words_with_what_stands_between_them(
    text: str, common: set[str]
) -> None:
    found = list(stretches(text, common))
    runs = [list(run) for is_common, run in groupby(text.split(), common.__contains__) if is_common]
    assert [stretch.split() for stretch in found] == runs
    assert all(stretch in text and stretch == stretch.rstrip() for stretch in found)


def test_a_million_spaces_at_the_end_are_passed_over_in_no_more_than_a_look_at_each() -> None:
    """A look from each to the end of them would be 5 * 10^11, over an hour; the limit is a minute."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_CPU, (60, 60))\n"
        "from malmoi.text.training.corpus import stretches\n"
        "assert list(stretches('가' + ' ' * 10**6, {'가'})) == ['가']"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@given(st.lists(st.text(alphabet="가나 \n")), st.integers(1, 4))
def test_no_word_is_left_only_if_each_alone_has_more_characters_than_there_is_room_for(
    texts: list[str], room: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "MAX_CHARACTERS", room)
        words = CommonWords()
        for text in texts:
            words.add(text)
    assert bool(words.counts) == any(len(found) <= room for found in words_of(texts))


@pytest.mark.parametrize("name", FROM_COMMON_WORDS)
def test_a_corpus_of_words_without_room_is_refused_and_one_more_word_is_learned(name: str) -> None:
    """As of a text without spaces."""
    train, texts = FROM_COMMON_WORDS[name], ["가" * 161, "\n", "나" * 200]
    with pytest.raises(TokenizerError, match="every word of the corpus is longer than 160 characters"):
        train(texts, vocab_size=SIZES[name])
    with pytest.raises(TokenizerError, match=r"Use \d+ or fewer"):
        train(["다라", *texts], vocab_size=SIZES[name])


@given(st.integers(0, 8), st.lists(st.integers(0, 10), max_size=40))
def test_words_that_are_common_in_every_text_are_counted_exactly(
    num_common: int, nums_rare: list[int]
) -> None:
    """40 words of four letters have room: 8 that stand twice in every text are always in the more frequent half."""
    common = [word(number) for number in range(num_common)]
    words, next_rare = CommonWords(), num_common
    for num_rare in nums_rare:
        words.add(" ".join([*map(word, range(next_rare, next_rare + num_rare)), *common, *common]))
        next_rare += num_rare
    assert all(words.counts[found] == 2 * len(nums_rare) for found in common)


@pytest.mark.parametrize("name", FROM_COMMON_WORDS)
def test_a_tokenizer_is_learned_from_the_common_words_alone(name: str) -> None:
    """The twin: with room for all, from texts out of which we cut the rare words ourselves. All letters are common."""
    train, vocab_size = FROM_COMMON_WORDS[name], SIZES[name]
    texts = [f"{LETTERS} {word(1234)} {word(i)} {word(56)}에 {word(12)}는\n {word(1234)}" for i in range(300)]
    words = CommonWords()
    for text in texts:
        words.add(text)
    assert not words.are_all
    missing = "|".join(sorted(words_of(texts).keys() - words.counts.keys()))
    cut = [part for text in texts for part in re.split(rf"\s*(?<!\S)(?:{missing})(?!\S)", text) if part]
    learned = train(iter(texts), vocab_size=vocab_size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "MAX_CHARACTERS", 2**24)
        assert learned.backend.to_str() == train(cut, vocab_size=vocab_size).backend.to_str()
        everything = train(texts, vocab_size=vocab_size).backend.to_str()
    assert learned.backend.to_str() != everything


@pytest.mark.parametrize("name", FROM_COMMON_WORDS)
def test_a_temporary_file_that_cannot_be_written_is_named(name: str, tmp_path: Path) -> None:
    """The disk is full after 64 KB, by a limit of the process."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))\n"
        "from malmoi.core.errors import TokenizerError\n"
        "from malmoi.text import training\n"
        "try:\n"
        f"    training.{FROM_COMMON_WORDS[name].__name__}(['나는 학교에 ' * 900] * 99, vocab_size=9_000)\n"
        "except TokenizerError as error:\n"
        "    print(error)"
    )
    environment = {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)
    message = done.stdout.decode()
    assert f"cannot write a temporary file in {tmp_path}: File too large" in message
    assert "TMPDIR" in message
    assert not list(tmp_path.iterdir())


def test_if_no_temporary_directory_can_be_written_the_one_wished_for_is_named(tmp_path: Path) -> None:
    """No file can have a byte, so that `tempfile` finds no directory."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "from malmoi.core.errors import TokenizerError\n"
        "from malmoi.text.training import train_bpe\n"
        "try:\n"
        "    train_bpe(['나는 학교에'], vocab_size=9_000)\n"
        "except TokenizerError as error:\n"
        "    print(error)"
    )
    environment = {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True)
    assert f"cannot write a temporary file in {tmp_path}: No usable" in done.stdout.decode()
