from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from malmoi.testing.tokenizer import SPECIAL_TOKENS, ByteTokenizer
from malmoi.text.tokenizer import Tokenizer

TOKENIZER = ByteTokenizer()


@given(st.text())
def test_ids_are_the_utf8_bytes_shifted_by_the_special_tokens(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert ids == [len(SPECIAL_TOKENS) + byte for byte in text.encode()]
    assert TOKENIZER.decode(ids) == text


def test_special_tokens_come_first() -> None:
    assert TOKENIZER.encode_special("".join(SPECIAL_TOKENS)) == [0, 1, 2]
    assert TOKENIZER.vocab_size == 256 + 3
    assert ByteTokenizer(["<s>"]).special_tokens == {"<s>": 0}


def test_a_saved_one_loads_as_an_ordinary_tokenizer(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path)
    assert Tokenizer.load(tmp_path).encode("말모이 🎈") == TOKENIZER.encode("말모이 🎈")
