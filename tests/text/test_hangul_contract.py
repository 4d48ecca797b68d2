"""What a reader of Korean may rely on, whatever tokenizer is in use: imported, grown, shrunk, or the shipped one.

The same laws for each way to learn a vocabulary: training/test_algorithms.py.
"""

import json
import unicodedata
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from malmoi.text.stream import DecodeStream
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training import train_bpe
from malmoi.text.vocabulary.expand import expand
from malmoi.text.vocabulary.shrink import shrink
from malmoi.text.vocabulary.superwords import add_superwords
from malmoi.weights.default import default_model

MISTRAL = Path(str(files("mistral_common"))) / "data"
CORPUS = [
    "나는 학교에 간다. 너는 학교에서 온다. 우리는 학교에서 말모이를 배운다. 배울 수 있다.",
    "말모이는 말을 모으는 일이다. ㅋㅋㅋ 정말? 2024년 it's Python이다. 모을 수 있다.",
] * 4
SYLLABLES = [chr(point) for point in range(ord("가"), ord("힣") + 1)]
COMPATIBILITY_JAMO = [chr(point) for point in range(0x3131, 0x318F)]
OLD_HANGUL = ["ᄒᆞᆫ", "나랏말ᄊᆞ미", "ᄫᅡᆼ", "ᅌᅵ", "ꥠᅡ", "ᄀힰퟋ", "ᄭᅮᆷ", "하ᇹ", "ᄒᆞᆫ〮"]
MIXED = [
    "Python은 it's 한국어 漢字 かな Ω 𝕏 ½ ①", "ㅋㅋ하하ㅠㅠ", "<|im_end|></s>[INST]", "  두  칸 ", "\n줄\r\n줄\t",
    "👨‍👩‍👧‍👦 👍🏽 🇰🇷 1️⃣", "한", "café", "꿻뷁", "▁한 ▁ <0xED>",
]  # fmt: skip
ANY_TEXT = st.lists(
    st.text(max_size=4) | st.sampled_from([*SYLLABLES[::97], *COMPATIBILITY_JAMO[::9], *OLD_HANGUL, *MIXED]),
    max_size=8,
).map("".join)


def gpt2() -> Tokenizer:
    content = json.loads(train_bpe(CORPUS, vocab_size=300).backend.to_str())["model"]
    with TemporaryDirectory() as directory:
        Path(directory, "vocab.json").write_text(json.dumps(content["vocab"]), "utf-8")
        Path(directory, "merges.txt").write_text("\n".join(map(" ".join, content["merges"])), "utf-8")
        return Tokenizer.load(directory)


MAKERS: dict[str, Callable[[], Tokenizer]] = {
    "the shipped one": lambda: Tokenizer.load(default_model()),
    "SentencePiece": lambda: Tokenizer.load(MISTRAL / "tokenizer.model.v1"),
    "SentencePiece expanded": lambda: expand(tokenizer("SentencePiece"), CORPUS, num_added=20),
    "Tekken": lambda: Tokenizer.load(MISTRAL / "tekken_240911.json"),
    "GPT-2": gpt2,
    "bytes expanded": lambda: expand(train_bpe(CORPUS, vocab_size=270), CORPUS, num_added=20),
    "superwords": lambda: add_superwords(train_bpe(CORPUS, vocab_size=300), CORPUS, num_added=3),
    "shrunk": lambda: shrink(tokenizer("the shipped one"), CORPUS).tokenizer,
}
COMPOSING = {
    "the shipped one",
    "bytes expanded",
    "superwords",
    "shrunk",
}  # with NFC in the file, as we train them
BYTE_LEVEL = sorted(MAKERS.keys() - {"SentencePiece", "SentencePiece expanded"})


@cache
def tokenizer(name: str) -> Tokenizer:
    return MAKERS[name]()


def expected(name: str, text: str) -> str:
    """The text, in NFC where the file says so; SentencePiece writes a space as ▁ and so reads a ▁ as a space."""
    text = text.replace("▁", " ") if name.startswith("SentencePiece") else text
    return unicodedata.normalize("NFC", text) if name in COMPOSING else text


def stream(made: Tokenizer, ids: list[int]) -> list[str]:
    decoding = DecodeStream(made)
    return [*map(decoding.push, ids), decoding.finish()]


@pytest.mark.parametrize("name", MAKERS)
def test_every_syllable_letter_and_old_syllable_comes_back_whole_and_streamed(name: str) -> None:
    made = tokenizer(name)
    texts = [*SYLLABLES, *COMPATIBILITY_JAMO, *OLD_HANGUL, *MIXED]
    for text, ids in zip(texts, made.encode_batch(texts), strict=True):
        assert made.decode(ids) == expected(name, text)
    together = " ".join(texts)
    pieces = stream(made, made.encode(together))
    assert "".join(pieces) == expected(name, together)
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=50)
@given(text=ANY_TEXT)
def test_any_text_comes_back_whole_and_streamed(name: str, text: str) -> None:
    made = tokenizer(name)
    ids = made.encode(text)
    assert made.decode(ids) == expected(name, text)
    pieces = stream(made, ids)
    assert "".join(pieces) == expected(name, text)
    assert "\ufffd" in text or not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("name", BYTE_LEVEL)
@settings(max_examples=30)
@given(data=st.binary(max_size=30))
def test_any_bytes_come_back_from_their_tokens(name: str, data: bytes) -> None:
    made = tokenizer(name)
    ids = [byte_ids(name)[byte] for byte in data]
    assert made.decode_bytes(ids) == data
    assert "".join(stream(made, ids)) == made.decode(ids) == data.decode("utf-8", "replace")


@cache
def byte_ids(name: str) -> dict[int, int]:
    made = tokenizer(name)
    pieces = {made.token_bytes(token_id): token_id for token_id in range(min(made.vocab_size, 2000))}
    return {byte: pieces[bytes([byte])] for byte in range(256)}
