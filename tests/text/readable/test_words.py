"""The readable twins of every tokenizer in conftest.py: the same ids for any plain text, or an error."""

from importlib.resources import files
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from malmoi.core.errors import TokenizerError
from malmoi.text.readable.words import KINDS, ReadableTokenizer, Word
from malmoi.text.tokenizer import Tokenizer

TEXTS = [
    "나는 학교에 간다.  너는\n\n학교에서 온다! ㅋㅋㅋ 2024년",
    "</s> <unk> <|eot_id|><think>말모이</think>él é <tool>   x",
    "Python은 it's 한국어 ᄒᆞᆫ 한 👨‍👩‍👧‍👦 \0 ½",
    "",
    " ",
]
TEXT = st.text(max_size=30) | st.lists(
    st.sampled_from(["말모이", "학교", "<think>", "<tool>", "</s>", "   ", "\n", "él", "é", "ᄒ", "한", "x"]),
    max_size=8,
).map("".join)


@pytest.fixture(scope="module")
def told(imported: tuple[Tokenizer, object]) -> ReadableTokenizer | None:
    """The twin of a tokenizer of another origin, or None if its model is of a kind that has no twin."""
    tokenizer, _ = imported
    if (kind := type(tokenizer.backend.model).__name__) in KINDS:
        return ReadableTokenizer(tokenizer)
    with pytest.raises(TokenizerError, match=f"the model is {kind}. Only BPE and Unigram"):
        ReadableTokenizer(tokenizer)
    return None


def test_a_twin_gives_the_same_ids(
    told: ReadableTokenizer | None, imported: tuple[Tokenizer, object]
) -> None:
    if told is not None:
        assert [told.encode(text) for text in TEXTS] == [imported[0].encode(text) for text in TEXTS]


@given(text=TEXT)
def test_a_twin_gives_the_same_ids_for_any_text(
    told: ReadableTokenizer | None, imported: tuple[Tokenizer, object], text: str
) -> None:
    if told is not None:
        assert told.encode(text) == imported[0].encode(text)


@given(text=TEXT)
def test_the_twin_of_our_own_gives_the_same_ids(korean: Tokenizer, text: str) -> None:
    assert ReadableTokenizer(korean).encode(text) == korean.encode(text)


@pytest.mark.parametrize(
    "file", ["tokenizer.model.v1", pytest.param("tekken_240911.json", marks=pytest.mark.slow)]
)
def test_the_twins_of_real_files_give_the_same_ids(file: str) -> None:
    tokenizer = Tokenizer.load(Path(str(files("mistral_common"))) / "data" / file)
    told = ReadableTokenizer(tokenizer)
    assert [told.encode(text) for text in TEXTS] == [tokenizer.encode(text) for text in TEXTS]


def test_an_added_token_is_a_word_by_itself(korean: Tokenizer) -> None:
    made = tokenizers.Tokenizer.from_str(korean.backend.to_str())
    made.add_tokens(["<think>", "él"])
    tokenizer = Tokenizer(made.to_str())
    first, second = (tokenizer.token_id(token) for token in ("<think>", "él"))
    assert ReadableTokenizer(tokenizer).words("a<think>él退<|im_end|>") == [
        Word("a"), Word("<think>", first), Word("él", second), Word("éĢĢ"),
        Word("<|"), Word("im"), Word("_"), Word("end"), Word("|>"),
    ]  # fmt: skip


def test_an_added_token_that_the_model_makes_of_other_text_is_no_word_by_itself() -> None:
    """ｶ is カ in NFKC, and in the vocabulary; found whole is only カ, after which ▁ stands again."""
    pieces = [("<unk>", 0.0), ("▁", -2.0), ("カ", -3.0), ("x", -4.0), ("y", -4.0)]
    made = tokenizers.Tokenizer(models.Unigram(pieces, 0, False))
    made.normalizer, made.decoder = normalizers.NFKC(), decoders.Metaspace()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.add_tokens([AddedToken("カ", normalized=False)])
    tokenizer = Tokenizer(made.to_str())
    told = ReadableTokenizer(tokenizer)
    assert told.words("xｶy") == [Word("▁xカy")]
    assert told.words("xカy") == [Word("▁x"), Word("カ", 2), Word("▁y")]
    assert [told.encode(text) for text in ("xｶy", "xカy")] == [[1, 3, 2, 4], [1, 3, 2, 1, 4]]
    assert [tokenizer.encode(text) for text in ("xｶy", "xカy")] == [[1, 3, 2, 4], [1, 3, 2, 1, 4]]
