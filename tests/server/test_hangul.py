"""The Hangul contract: whatever a model says in whatever tokens, a stream of it is the text, and nothing but the text.

A model that recites given ids speaks through each kind of tokenizer, those that we train and those that we import, and
through every endpoint that streams. What comes in pieces is the whole, no piece has half a character, and the bytes of
the tokens are those of the text.
"""

import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from tests.server.conftest import Serve
from tests.server.recital import DIALECTS, Dialect, Recital

from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training import (
    train_bpe,
    train_character_bpe,
    train_characters,
    train_jamo,
    train_unigram,
    train_wordpiece,
)

SYLLABLES = [chr(code) for code in range(ord("가"), ord("힣") + 1)]
TEXTS = [
    "한글은 말모이, 말을 모은다.",
    unicodedata.normalize("NFD", "값을 읽고 훑었다"),
    "나랏말〯ᄊᆞ미 듕귁에 달아 ᄒᆞᆫ글",  # old Hangul, which has no composed form
    "ㅋㅋㅋ ㅠㅠ ㄱㅏ",
    "가족 👨‍👩‍👧‍👦 깃발 🇰🇷 손 👍🏽 하트 ❤️‍🔥 끝",
    "각\u0301 e\u0301 ไทย नमस्ते",
    "ᄒ ᅡ ᆫ 하 한 한",
    "코드: `print('안녕')`\n\n\t끝",
]
CORPUS = ["안녕하세요. 말모이는 말을 모은다 abc the of 😀 "] * 30
STOPPING = [dialect for dialect in DIALECTS if dialect.has_stop]
MISTRAL = Path(str(files("mistral_common"))) / "data"
KINDS: dict[str, Callable[[], Tokenizer]] = {
    "bytes": ByteTokenizer,
    "byte-level BPE": lambda: train_bpe(CORPUS, vocab_size=300),
    "BPE of characters": lambda: train_character_bpe(CORPUS, vocab_size=385),
    "unigram": lambda: train_unigram(CORPUS, vocab_size=370),
    "characters": lambda: train_characters(CORPUS, vocab_size=365),
    "jamo": lambda: train_jamo(CORPUS, vocab_size=474),
    "WordPiece": lambda: train_wordpiece([*[" ".join(SYLLABLES)] * 3, *TEXTS, *CORPUS], vocab_size=22_590),
    "SentencePiece of Mistral": lambda: Tokenizer.load(MISTRAL / "tokenizer.model.v1"),
    "Tekken of Mistral": lambda: Tokenizer.load(MISTRAL / "tekken_240911.json"),
}


def is_settled(piece: str) -> bool:
    """Whether a piece can be shown: it has no half of a character, and does not end inside of an emoji."""
    return "\ufffd" not in piece and not piece.endswith("\u200d")


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return KINDS[request.param]()


@pytest.fixture(scope="module")
def recital(tokenizer: Tokenizer, start_server: Serve) -> Recital:
    return Recital(start_server, tokenizer, TEXTS)


def dialects(those: list[Dialect]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("dialect", those, ids=lambda dialect: dialect.path)


def test_the_texts_come_back_where_a_tokenizer_keeps_them(tokenizer: Tokenizer) -> None:
    whole = [tokenizer.decode(tokenizer.encode(text)) for text in TEXTS]
    assert whole[0] == TEXTS[0] or tokenizer.token_id("[UNK]") is not None
    if tokenizer.token_id("[UNK]") is None:  # WordPiece has unknown words, and no spaces of its own
        assert whole in (TEXTS, [unicodedata.normalize("NFC", text) for text in TEXTS])


@dialects(DIALECTS)
def test_the_pieces_of_a_stream_are_the_text_and_its_bytes_are_those_of_the_tokens(
    recital: Recital, dialect: Dialect
) -> None:
    for number, wanted in enumerate(recital.texts()):
        heard = recital.stream(dialect, number, **dialect.likelihoods)
        assert heard.reason == dialect.stopped
        assert heard.text.removeprefix(" ") == wanted
        assert all(map(is_settled, heard.pieces))
        assert number % 3 or recital.whole(dialect, number) == heard.text
        if dialect.likelihoods:
            spelled = heard.spelled.decode()
            spelled = unicodedata.normalize("NFC", spelled) if recital.tokenizer.is_composing else spelled
            assert spelled.removeprefix(" ") == heard.text.removeprefix(" ")
        # A syllable is never shown as its beginning and its rest.
        joints = [before[-1] + after[0] for before, after in pairwise(filter(None, heard.pieces))]
        jamo = [joint for joint in joints if all("\u1100" <= character <= "\u11ff" for character in joint)]
        assert all(len(unicodedata.normalize("NFC", joint)) == 2 for joint in jamo)


@dialects(STOPPING)
def test_a_stop_string_is_found_across_any_cut(recital: Recital, dialect: Dialect) -> None:
    def check(at: int) -> None:
        stop = wanted[at : at + 1 + at % 3]
        heard = recital.stream(dialect, 4, stop=["이 없는 것", stop])
        assert heard.text.removeprefix(" ") == wanted[: wanted.find(stop)].removeprefix(" "), stop
        assert heard.reason == dialect.stopped_early

    wanted = recital.texts()[4]
    cuts = range(STOPPING.index(dialect) % 3, len(wanted), 3)  # all dialects together have each cut
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(check, [at for at in cuts if wanted[at] != " "]))


@pytest.mark.slow
def test_all_syllables_of_modern_korean_come_through(tokenizer: Tokenizer, serve: Serve) -> None:
    has_spaces = tokenizer.token_id("[UNK]") is None
    parts = [("" if has_spaces else " ").join(SYLLABLES[start::18]) for start in range(18)]
    recital = Recital(serve, tokenizer, parts, num_tokens=7)
    assert recital.texts() == parts

    def check(number: int) -> None:
        heard = recital.stream(DIALECTS[number % len(DIALECTS)], number)
        assert heard.text.removeprefix(" ") == parts[number]
        assert all(map(is_settled, heard.pieces))

    with ThreadPoolExecutor(18) as threads:
        list(threads.map(check, range(18)))
