"""The Hangul contract: whatever a model says in whatever tokens, a stream of it is the text, and nothing but the text.

A model that recites given ids speaks through each kind of tokenizer that we train and through both endpoints. What
comes in pieces is the whole, no piece has half a character, and the bytes of the tokens are those of the text.
"""

import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from jaxtyping import Float, Shaped
from tests.server.conftest import HELLO, Serve, Served
from torch import Tensor, nn

from malmoi.engine import Generation, Request
from malmoi.llm import LLM
from malmoi.nn.context import Context
from malmoi.nn.stack import Decoder
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.chat import ChatTemplate
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
ENDPOINTS = {"/v1/chat/completions": {"messages": HELLO}, "/v1/completions": {"prompt": "말"}}
KINDS: dict[str, Callable[[], Tokenizer]] = {
    "bytes": ByteTokenizer,
    "byte-level BPE": lambda: train_bpe(CORPUS, vocab_size=300),
    "BPE of characters": lambda: train_character_bpe(CORPUS, vocab_size=385),
    "unigram": lambda: train_unigram(CORPUS, vocab_size=370),
    "characters": lambda: train_characters(CORPUS, vocab_size=365),
    "jamo": lambda: train_jamo(CORPUS, vocab_size=474),
    "WordPiece": lambda: train_wordpiece([*[" ".join(SYLLABLES)] * 3, *TEXTS, *CORPUS], vocab_size=22_590),
}


class Table(nn.Module):
    """From a place to logits that say which token is there."""

    def __init__(self, script: Sequence[int], vocab_size: int) -> None:
        super().__init__()
        self.script = torch.tensor(script)
        self.vocab_size = vocab_size

    def forward(self, places: Float[Tensor, "... 1"]) -> Float[Tensor, "... V"]:
        wanted = self.script[places[..., 0].long().clamp_max(len(self.script) - 1)]
        return nn.functional.one_hot(wanted, self.vocab_size).float() * 30.0


class Reciter(Decoder):
    """Says `script[place]` behind any token at a place: where a prompt ends decides what its answer is."""

    def __init__(self, script: Sequence[int], vocab_size: int) -> None:
        super().__init__(
            embedding=nn.Embedding(1, 1),
            blocks=[],
            head=Table(script, vocab_size),
            vocab_size=vocab_size,
            max_positions=len(script) + 8,
        )

    def embed(
        self, inputs: Shaped[Tensor, "B T"], context: Context
    ) -> tuple[Float[Tensor, "B T 1"], Context]:
        return context.positions[..., None].float(), context


class Recital:
    """A server of a model that answers a request of seed k with the k-th of `texts`, `num_tokens` at a time."""

    def __init__(
        self, serve: Serve, tokenizer: Tokenizer, texts: Sequence[str], *, num_tokens: int = 1
    ) -> None:
        end = tokenizer.special_tokens["<|im_end|>"]
        self.tokenizer = tokenizer
        self.ids = [tokenizer.encode(text) for text in texts]
        script = [token for ids in self.ids for token in (*ids, end)]
        starts = [0]
        for ids in self.ids:
            starts.append(starts[-1] + len(ids) + 1)
        llm = LLM(
            Reciter(script, tokenizer.vocab_size), tokenizer, template=ChatTemplate.default(), stop_ids=[end]
        )
        add, step = llm.engine.add, llm.engine.step

        def add_at_its_place(request: Request) -> Generation:
            assert request.params.seed is not None
            return add(replace(request, tokens=[end] * (starts[request.params.seed] + 1)))

        def steps() -> None:
            for _ in range(num_tokens):
                step()

        llm.engine.add, llm.engine.step = add_at_its_place, steps  # type: ignore[method-assign]
        self.served: Served = serve(llm)

    def texts(self) -> list[str]:
        """What the answers are as texts, as the tokenizer decodes them."""
        return [self.tokenizer.decode(ids, skip_special=True) for ids in self.ids]

    def pieces(self, path: str, number: int, **options: Any) -> tuple[list[str], bytes, str]:
        """The pieces of an answer, the bytes of its tokens (if `logprobs` are asked for), and why it ended."""
        body = {**ENDPOINTS[path], "temperature": 0, "seed": number, **options}
        choices = [choice for chunk in self.served.chunks(path, **body) for choice in chunk["choices"]]
        if "chat" in path:
            texts = [choice["delta"].get("content", "") for choice in choices]
            logprobs = [
                one for choice in choices if choice["logprobs"] for one in choice["logprobs"]["content"]
            ]
            piece_bytes = b"".join(bytes(one["bytes"] or ()) for one in logprobs)
        else:
            texts = [choice["text"] for choice in choices]
            tokens = [one for choice in choices if choice["logprobs"] for one in choice["logprobs"]["tokens"]]
            special = self.tokenizer.special_tokens
            piece_bytes = b"".join(_bytes(token) for token in tokens if token.strip(" ") not in special)
        return texts, piece_bytes, choices[-1]["finish_reason"]

    def whole(self, path: str, number: int, **options: Any) -> str:
        """The same answer in one piece."""
        body = {**ENDPOINTS[path], "temperature": 0, "seed": number, **options}
        choice = self.served.post(path, **body).json()["choices"][0]
        return str(choice["message"]["content"] if "chat" in path else choice["text"])


def _bytes(token: str) -> bytes:
    r"""Of a token as completions write it: `\xed` is a byte."""
    if token.startswith("\\x") and len(token) % 4 == 0:
        return bytes.fromhex(token.replace("\\x", ""))
    return token.encode()


def is_settled(piece: str) -> bool:
    """Whether a piece can be shown: it has no half of a character, and does not end inside of an emoji."""
    return "\ufffd" not in piece and not piece.endswith("\u200d")


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return KINDS[request.param]()


@pytest.fixture(scope="module")
def recital(tokenizer: Tokenizer, start_server: Serve) -> Recital:
    return Recital(start_server, tokenizer, TEXTS)


def test_the_texts_come_back_where_a_tokenizer_keeps_them(tokenizer: Tokenizer) -> None:
    whole = [tokenizer.decode(tokenizer.encode(text)) for text in TEXTS]
    assert whole[0] == TEXTS[0] or tokenizer.token_id("[UNK]") is not None
    if tokenizer.token_id("[UNK]") is None:  # WordPiece has unknown words, and no spaces of its own
        forms = {text: unicodedata.normalize("NFC", text) for text in TEXTS}
        assert whole == [text if isinstance(tokenizer, ByteTokenizer) else forms[text] for text in TEXTS]


@pytest.mark.parametrize("path", ENDPOINTS)
def test_the_pieces_of_a_stream_are_the_text_and_its_bytes_are_those_of_the_tokens(
    recital: Recital, path: str
) -> None:
    for number, wanted in enumerate(recital.texts()):
        pieces, data, reason = recital.pieces(path, number, logprobs=True if "chat" in path else 0)
        said = "".join(pieces)
        assert reason == "stop"
        assert said.removeprefix(" ") == wanted
        assert all(map(is_settled, pieces))
        assert recital.whole(path, number) == said
        spelled = data.decode()
        spelled = unicodedata.normalize("NFC", spelled) if recital.tokenizer.is_composing else spelled
        assert spelled.removeprefix(" ") == said.removeprefix(" ")
        # A syllable is never shown as its beginning and its rest.
        joints = [before[-1] + after[0] for before, after in pairwise(filter(None, pieces))]
        jamo = [joint for joint in joints if all("\u1100" <= character <= "\u11ff" for character in joint)]
        assert all(len(unicodedata.normalize("NFC", joint)) == 2 for joint in jamo)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_a_stop_string_is_found_across_any_cut(recital: Recital, path: str) -> None:
    def check(at: int) -> None:
        stop = wanted[at : at + 1 + at % 3]
        pieces, _, reason = recital.pieces(path, 4, stop=["이 없는 것", stop])
        assert "".join(pieces).removeprefix(" ") == wanted[: wanted.find(stop)].removeprefix(" "), stop
        assert reason == "stop"

    wanted = recital.texts()[4]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(check, [at for at in range(len(wanted)) if wanted[at] != " "]))


@pytest.mark.slow
def test_all_syllables_of_modern_korean_come_through(tokenizer: Tokenizer, serve: Serve) -> None:
    has_spaces = tokenizer.token_id("[UNK]") is None
    parts = [("" if has_spaces else " ").join(SYLLABLES[start::16]) for start in range(16)]
    recital = Recital(serve, tokenizer, parts, num_tokens=7)
    assert recital.texts() == parts

    def check(number: int) -> None:
        pieces, _, _ = recital.pieces(list(ENDPOINTS)[number % 2], number)
        assert "".join(pieces).removeprefix(" ") == parts[number]
        assert all(map(is_settled, pieces))

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(check, range(16)))
