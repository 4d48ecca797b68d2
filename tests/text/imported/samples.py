"""Texts on which an imported tokenizer has to give the ids of the library that it comes from."""

import io
import unicodedata
from importlib.resources import files
from pathlib import Path
from typing import Any

import sentencepiece
from hypothesis import strategies as st

MISTRAL = Path(str(files("mistral_common"))) / "data"
"""Real files: SentencePiece (v1, v2, v3, v7) and Tekken."""

KOREAN = "말모이는 말을 모으는 일이다. 나는 학교에 가고, 너는 학교에서 온다! ㅋㅋㅋㅋ ㅠㅠ 2024년 12월 25일"
TEXTS = [
    "",
    " ",
    KOREAN,
    unicodedata.normalize("NFD", KOREAN),
    "It's a language that people DON'T dislike, naïve café. 1234567 x½ Ⅷ",
    'def f(x: int) -> str:\n\treturn f"{x:>8}"  # comment\n\n\n    if x != 0x41:\r\n        pass\n',
    "👨‍👩‍👧‍👦 👍🏽 🇰🇷 1️⃣ ™️ ☃",
    "나랏〮말〯ᄊᆞ미 ᄒᆞᆫ",
    "▁ ▁▁ a▁b▁ ▁",
    "  two  spaces\u3000wide\u00a0hard\u200bzero\u200d \t\n \r\n end  \n ",
    "<s> </s> <unk> <pad> [INST] hi [/INST] <0x41><0xEA> <0x41>",
    "～ ~ ﾊﾝｶｸ ㈜ ① ﬁ \ufeff\ufffd\x00\x01\x7f",
    "日本語 中文 Русский язык العربية हिन्दी ไทย",
    *("a" + " " * number + "b" for number in range(1, 40)),
]

ANY_TEXT = st.text(max_size=40)
MIXED_TEXT = st.text(
    st.sampled_from("가나다학교에ㅋㅠ한 \n\t▁ab'sS12.!<0x41>éᄒ\u1161\u11ab\u0301😀\u200d"), max_size=40
)


def train_sentencepiece(algorithm: str, rule: str, has_bytes: bool, **options: Any) -> bytes:
    """Return a small model; some characters of the texts are unknown to it."""
    corpus = [KOREAN, "한국어는 한국의 말이다. it's a word, (another) one <sep>", *TEXTS[4:6]] * 5
    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_writer=made,
        vocab_size=420 if has_bytes else 160,
        model_type=algorithm,
        normalization_rule_name=rule,
        byte_fallback=has_bytes,
        control_symbols=["<ctl>"],
        character_coverage=0.98,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    return made.getvalue()
