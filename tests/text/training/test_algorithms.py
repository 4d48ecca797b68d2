"""The laws that every way to learn a vocabulary obeys."""

import json
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from malmoi.core.errors import TokenizerError
from malmoi.text import training
from malmoi.text.stream import DecodeStream
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training.morphemes import in_morphemes

TEXTS = [
    "나는 학교에 간다. 너는 학교에서 온다. 우리는 학교에서 말모이를 배운다.",
    "말모이는 말을 모으는 일이다. ㅋㅋㅋ 정말? 2024년 it's <|im_end|> <unk> [UNK] <0x41>",
    "학교에서 말모이를 배우는 학생은 말모이에서 낱말을 찾는다. 낱말은 말모이에 있다.",
] * 3
SYLLABLES = [chr(point) for point in range(ord("가"), ord("힣") + 1)]
LONE_JAMO = [chr(point) for point in range(0x3131, 0x318F)]
OLD_HANGUL = ["ᄒᆞᆫ", "나랏말ᄊᆞ미", "ᄫᅡᆼ", "ᅌᅵ", "ꥠᅡ", "ᄀힰퟋ", "ᄭᅮᆷ", "하ᇹ", "ᄒᆞᆫ〮"]
TRICKY = [
    "<0x41>", "<0xEC>", "<unk>", "[UNK]", "##가", "▁", "<|im_end|>", "\0", "\n\n", "  ", "café", "e\u0301", "꿻",
    "👨‍👩‍👧", "漢字", "가\u0301", "\u1161\u11a8", "≠", "=\u0338", "Å", "각", "\u11a8", "<",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """How to learn, the least and a possible size on `TEXTS`."""

    train: Callable[..., Tokenizer]
    vocab_size: int
    is_lossless: bool = True


ALGORITHMS = {
    "bpe": Algorithm(train=training.train_bpe, vocab_size=300),
    "character bpe": Algorithm(train=training.train_character_bpe, vocab_size=420),
    "unigram": Algorithm(train=training.train_unigram, vocab_size=394),
    "wordpiece": Algorithm(train=training.train_wordpiece, vocab_size=290, is_lossless=False),
    "words": Algorithm(train=training.train_words, vocab_size=20, is_lossless=False),
    "characters": Algorithm(train=training.train_characters, vocab_size=380),
    "jamo": Algorithm(train=training.train_jamo, vocab_size=473),
    "morphemes": Algorithm(train=training.train_morpheme_bpe, vocab_size=300),
}
TOKENIZERS = {
    name: algorithm.train(TEXTS, vocab_size=algorithm.vocab_size) for name, algorithm in ALGORITHMS.items()
}
LOSSLESS = [name for name, algorithm in ALGORITHMS.items() if algorithm.is_lossless]
NAMES = list(ALGORITHMS)


def saved(tokenizer: Tokenizer, directory: Path) -> bytes:
    tokenizer.save(directory)
    return (directory / "tokenizer.json").read_bytes()


def nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def stream(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    decoding = DecodeStream(tokenizer)
    return [decoding.push(token_id) for token_id in ids] + [decoding.finish()]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_same_texts_give_the_same_file_to_the_byte_in_any_process(name: str, tmp_path: Path) -> None:
    algorithm = ALGORITHMS[name]
    first = saved(TOKENIZERS[name], tmp_path)
    call = f"{algorithm.train.__name__}({TEXTS!r}, vocab_size={algorithm.vocab_size}).save({str(tmp_path)!r})"
    for parallelism in ("true", "false"):
        code = f"from malmoi.text.training import *; {call}"
        environment = {"TOKENIZERS_PARALLELISM": parallelism}
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        assert (tmp_path / "tokenizer.json").read_bytes() == first


@pytest.mark.parametrize("name", NAMES)
def test_the_size_is_the_one_asked_for_and_special_tokens_come_first(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    assert tokenizer.vocab_size == ALGORITHMS[name].vocab_size == tokenizer.backend.get_vocab_size()
    control = list(tokenizer.special_tokens)
    assert [tokenizer.special_tokens[token] for token in control] == list(range(len(control)))
    assert tuple(control[:3]) == training.SPECIAL_TOKENS


@pytest.mark.parametrize("name", NAMES)
def test_the_library_alone_gives_the_same_ids(name: str, tmp_path: Path) -> None:
    tokenizer = TOKENIZERS[name]
    tokenizer.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    slow_import = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*TEXTS[:3], *OLD_HANGUL, "나는 꿻 갔다"]:
        plain = text.replace("<|im_end|>", "").replace("<unk>", "").replace("[UNK]", "")
        ids = tokenizer.encode(plain)
        assert theirs.encode(plain, add_special_tokens=False).ids == ids
        assert slow_import(plain, add_special_tokens=False)["input_ids"] == ids
        assert nfc(theirs.decode(ids)) == tokenizer.decode(ids, skip_special=True)
    assert slow_import.eos_token == "<|endoftext|>"


@pytest.mark.parametrize("name", NAMES)
def test_decomposed_text_has_the_ids_of_composed_text(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    for text in [*TEXTS, *OLD_HANGUL, *TRICKY]:
        assert tokenizer.encode(unicodedata.normalize("NFD", text)) == tokenizer.encode(nfc(text))


@pytest.mark.parametrize("name", NAMES)
def test_decomposed_corpora_teach_the_same(name: str, tmp_path: Path) -> None:
    algorithm = ALGORITHMS[name]
    decomposed = algorithm.train(
        (unicodedata.normalize("NFD", text) for text in TEXTS), vocab_size=algorithm.vocab_size
    )
    assert saved(decomposed, tmp_path) == saved(TOKENIZERS[name], tmp_path)


@pytest.mark.parametrize("name", LOSSLESS)
def test_every_syllable_letter_and_old_syllable_comes_back(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    wholes = [*SYLLABLES, *LONE_JAMO, *OLD_HANGUL, *TRICKY]
    for text, ids in zip(wholes, tokenizer.encode_batch(wholes), strict=True):
        assert tokenizer.decode(ids) == nfc(text)
    together = " ".join(wholes)
    assert tokenizer.decode(tokenizer.encode(together)) == nfc(together)


@pytest.mark.parametrize("name", LOSSLESS)
@given(st.lists(st.text(max_size=4) | st.sampled_from([*SYLLABLES[::97], *OLD_HANGUL, *TRICKY])).map("".join))
def test_any_text_comes_back_whole_and_streamed(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == nfc(text)
    pieces = stream(tokenizer, ids)
    assert "".join(pieces) == nfc(text)
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=30)
@given(st.data())
def test_the_pieces_of_any_ids_are_what_decode_gives(name: str, data: st.DataObject) -> None:
    tokenizer = TOKENIZERS[name]
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1)))
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids, skip_special=True)


@pytest.mark.parametrize("name", NAMES)
def test_no_special_token_can_be_typed(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    unknown = tokenizer.token_id(str(tokenizer.config.get("unk_token")))
    control = set(tokenizer.special_tokens.values()) - {unknown}
    assert control.isdisjoint(tokenizer.encode("".join(tokenizer.special_tokens) + " <|im_end|> x"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "texts",
    [["\0"], ["a"], ["", "a"], ["한 줄"]],
    ids=["a NUL", "a letter", "an empty text first", "one line"],
)
def test_too_little_text_is_refused_with_the_size_that_it_supports(name: str, texts: list[str]) -> None:
    with pytest.raises(TokenizerError, match=r"Use \d+ or (fewer|more)"):
        ALGORITHMS[name].train(texts, vocab_size=50_000)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "texts", [[], [""], [" ", "\n"]], ids=["no text at all", "an empty text", "white space"]
)
def test_a_corpus_without_text_is_refused_whatever_the_size(name: str, texts: list[str]) -> None:
    """Also at the size for which there is nothing to learn: bytes, ASCII and control tokens."""
    no_text = "no text to learn from in the corpus"
    for vocab_size in (192, 195, 259, 355, 356, 473):
        with pytest.raises(TokenizerError, match=f"{no_text}|has no room"):
            ALGORITHMS[name].train(texts, vocab_size=vocab_size)
    with pytest.raises(TokenizerError, match=no_text):
        ALGORITHMS[name].train(texts, vocab_size=5_000)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("texts", [TEXTS, ["나"], ["", "a"]], ids=["a corpus", "a syllable", "a letter"])
def test_the_vocabulary_reaches_the_size_that_the_error_names(name: str, texts: list[str]) -> None:
    train = ALGORITHMS[name].train
    with pytest.raises(TokenizerError, match="more text") as caught:
        train(texts, vocab_size=50_000)
    largest = int(str(caught.value).split("Use ")[1].split()[0])
    assert train(texts, vocab_size=largest).vocab_size == largest


@pytest.mark.parametrize("name", NAMES)
def test_a_size_without_room_is_refused_with_one_that_has(name: str) -> None:
    with pytest.raises(TokenizerError, match="has no room"):
        ALGORITHMS[name].train(TEXTS, vocab_size=4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("vocab_size", [2**24 + 1, 10**9, 10**11, 10**30])
def test_a_size_that_no_memory_holds_is_refused_before_it_is_reserved(name: str, vocab_size: int) -> None:
    with pytest.raises(TokenizerError, match=f"vocab_size={vocab_size} is too large. Use 16777216 or fewer"):
        ALGORITHMS[name].train(TEXTS, vocab_size=vocab_size)


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_read_once_and_one_by_one(name: str) -> None:
    alive = most = 0

    class Counted(str):
        __slots__ = ()

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def texts() -> Iterator[str]:
        nonlocal alive, most
        for index in range(3_000):
            alive, most = alive + 1, max(most, alive + 1)
            yield Counted(TEXTS[index % len(TEXTS)])

    ALGORITHMS[name].train(texts(), vocab_size=ALGORITHMS[name].vocab_size)
    assert most <= 1_000


@pytest.mark.parametrize("name", NAMES)
def test_an_encoders_special_tokens_and_frame_go_with_every_algorithm(name: str) -> None:
    algorithm = ALGORITHMS[name]
    plain = algorithm.train(
        TEXTS, vocab_size=algorithm.vocab_size + 1, special_tokens=training.ENCODER_TOKENS
    )
    framed = training.frame_for_encoders(plain)
    assert framed.encode_framed(TEXTS[0])[0] == [1, *plain.encode(TEXTS[0]), 2]
    assert framed.config.get("unk_token") == plain.config.get("unk_token")
    assert "eos_token" not in framed.config


def test_jamo_are_the_letters_of_the_syllables_and_the_stream_gives_them_whole() -> None:
    tokenizer = TOKENIZERS["jamo"]
    ids = tokenizer.encode("한 가e\u0301ㅋ")
    assert [tokenizer.token_bytes(i).decode("utf-8", "replace") for i in ids[:4]] == ["ᄒ", "ᅡ", "ᆫ", " "]
    assert tokenizer.is_composing
    assert stream(tokenizer, ids)[:7] == ["", "", "", "한", " ", "", "가"]
    assert unicodedata.normalize("NFC", tokenizer.backend.decode(ids)) == tokenizer.decode(ids)


@pytest.mark.slow
def test_streamed_jamo_of_all_syllables_never_show_half_of_one() -> None:
    tokenizer = TOKENIZERS["jamo"]
    text = "".join(SYLLABLES)
    pieces = stream(tokenizer, tokenizer.encode(text))
    assert "".join(pieces) == text
    assert all(piece in SYLLABLES for piece in pieces if piece)
    assert list(accumulate(map(len, pieces)))[-1] == len(SYLLABLES)


def test_an_unknown_word_is_unknown_and_so_is_a_word_with_an_unknown_character() -> None:
    words, wordpiece = TOKENIZERS["words"], TOKENIZERS["wordpiece"]
    assert words.decode(words.encode("나는 집에 학교에서")) == "나는 <unk> 학교에서"
    assert words.config["unk_token"] == "<unk>"
    assert wordpiece.decode(wordpiece.encode("학교에꿻 말모이")) == "[UNK] 말모이"


def test_what_is_rare_is_spelled_by_bytes_and_no_token_is_learned_across_it() -> None:
    common = ["가나다라마 " * 500] * 10
    tokenizer = training.train_character_bpe(
        chain(common, ["뷁"]), vocab_size=len(training.SPECIAL_TOKENS) + 256 + 96 + 5 + 2
    )
    assert tokenizer.token_id("뷁") is None
    assert [tokenizer.token_bytes(i) for i in tokenizer.encode("뷁")] == [bytes([b]) for b in "뷁".encode()]


def test_a_part_of_a_text_ends_what_is_learned() -> None:
    """The morphemes of 학교에 are learned apart, and the file is that of any BPE."""
    texts = ["학교에 학교에 학교에"] * 9
    whole = training.train_bpe(texts, vocab_size=264, special_tokens=())
    apart = training.train_bpe(texts, split=in_morphemes, vocab_size=264, special_tokens=())
    learned = [
        [made.token_bytes(i).decode("utf-8", "replace") for i in range(256, 264)] for made in (whole, apart)
    ]
    assert any("교에" in token for token in learned[0])
    assert not any("교에" in token for token in learned[1])
    files = [json.loads(made.backend.to_str()) for made in (whole, apart)]
    assert files[0]["pre_tokenizer"] == files[1]["pre_tokenizer"]
