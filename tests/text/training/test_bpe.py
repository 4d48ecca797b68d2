import json
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from malmoi.core.errors import TokenizerError
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training import ENCODER_TOKENS, SPECIAL_TOKENS, train_bpe, train_bpe_for_encoders

TEXTS = [
    "말모이는 말을 모으는 일이다. 나는 학교에 가고, 너는 학교에서 온다.",
    "한국어 토큰은 글자보다 크고 낱말보다 작다. ㅋㅋㅋ 정말? 2024년 it's <|im_end|><|im_end|>",
] * 3


def saved(tokenizer: Tokenizer, directory: Path) -> bytes:
    tokenizer.save(directory)
    return (directory / "tokenizer.json").read_bytes()


def test_the_same_texts_give_the_same_file_to_the_byte(tmp_path: Path) -> None:
    first = saved(train_bpe(TEXTS, vocab_size=360), tmp_path)
    assert saved(train_bpe(iter(TEXTS), vocab_size=360), tmp_path) == first
    code = f"from malmoi.text.training import *; train_bpe({TEXTS!r}, vocab_size=360).save({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, env={"TOKENIZERS_PARALLELISM": "true"})
    assert (tmp_path / "tokenizer.json").read_bytes() == first


def test_ids_are_special_tokens_then_bytes_then_merges() -> None:
    tokenizer = train_bpe(TEXTS, vocab_size=360)
    assert dict(tokenizer.special_tokens) == {token: i for i, token in enumerate(SPECIAL_TOKENS)}
    assert {tokenizer.token_bytes(i) for i in range(3, 259)} == {bytes([byte]) for byte in range(256)}
    assert all(len(tokenizer.token_bytes(i)) > 1 for i in range(259, 360))


def test_a_smaller_vocabulary_is_the_beginning_of_a_larger_one() -> None:
    small, large = train_bpe(TEXTS, vocab_size=300), train_bpe(TEXTS, vocab_size=360)
    assert [large.token_bytes(i) for i in range(300)] == [small.token_bytes(i) for i in range(300)]


def test_nfc_is_part_of_the_file(tmp_path: Path) -> None:
    tokenizer = train_bpe(TEXTS, vocab_size=360)
    assert json.loads(saved(tokenizer, tmp_path))["normalizer"] == {"type": "NFC"}
    text = "말모이 학교에 간다"
    assert tokenizer.encode(unicodedata.normalize("NFD", text)) == tokenizer.encode(text)
    decomposed = [unicodedata.normalize("NFD", line) for line in TEXTS]
    assert saved(train_bpe(decomposed, vocab_size=360), tmp_path) == saved(tokenizer, tmp_path)


def test_the_texts_are_read_once_and_one_by_one() -> None:
    alive = most = 0

    class Counted(str):
        __slots__ = ()

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def texts() -> Iterator[str]:
        nonlocal alive, most
        for index in range(20_000):
            alive, most = alive + 1, max(most, alive + 1)
            yield Counted(TEXTS[index % len(TEXTS)])

    train_bpe(texts(), vocab_size=300)
    assert most <= 1_000


def test_a_special_token_that_merges_could_spell_stays_out_of_reach() -> None:
    """`###` in the training text makes the merges build the special token itself."""
    tokenizer = train_bpe([*TEXTS, "### 제목\n" * 50], vocab_size=330, special_tokens=("<end>", "###"))
    assert 1 in tokenizer.backend.model.tokenize("###")[0].as_tuple()
    assert tokenizer.decode(tokenizer.encode("### 제목")) == "### 제목"
    assert 1 not in tokenizer.encode("### 제목")
    assert tokenizer.encode_special("###") == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 258}, "vocab_size=258 has no room .* Use 259 or more"),
        ({"vocab_size": 5_000}, r"only \d+ pairs to merge. Use \d+ or fewer, or more text"),
        ({"vocab_size": 300, "special_tokens": ("<a>", "<a>")}, "names one twice"),
        ({"vocab_size": 300, "special_tokens": ("",)}, "empty"),
    ],
)
def test_what_cannot_be_trained_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        train_bpe(TEXTS, **arguments)  # type: ignore[arg-type]


def test_the_vocabulary_reaches_the_size_that_the_error_names() -> None:
    with pytest.raises(TokenizerError) as caught:
        train_bpe(TEXTS, vocab_size=5_000)
    largest = int(str(caught.value).split("Use ")[1].split()[0])
    assert train_bpe(TEXTS, vocab_size=largest).vocab_size == largest


def test_an_encoders_tokenizer_is_the_same_with_other_special_tokens_and_a_frame(tmp_path: Path) -> None:
    plain = train_bpe(TEXTS, vocab_size=360, special_tokens=ENCODER_TOKENS)
    framed = train_bpe_for_encoders(TEXTS, vocab_size=360)
    assert dict(framed.special_tokens) == {token: i for i, token in enumerate(ENCODER_TOKENS)}
    for text in TEXTS:
        assert framed.encode(text) == plain.encode(text)
        assert framed.encode_framed(text)[0] == [1, *plain.encode(text), 2]
    framed.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    inputs = theirs(TEXTS[0], TEXTS[1], split_special_tokens=True)
    assert (inputs["input_ids"], inputs["token_type_ids"]) == framed.encode_framed(TEXTS[0], TEXTS[1])
    assert (theirs.mask_token, theirs.pad_token_id) == ("[MASK]", 0)
