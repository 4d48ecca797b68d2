import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors
from transformers import AutoTokenizer

from malmoi.core.errors import TokenizerError
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training import train_bpe_for_encoders
from malmoi.text.vocabulary.expand import expand
from malmoi.text.vocabulary.shrink import Shrunk, shrink

KEPT = ["나는 학교에 가고, 너는 학교에서 온다.", "말을 모으는 일이다. 2024년 12월", "토큰 글자 <s>"]


@pytest.fixture(scope="module")
def ours(imported: tuple[Tokenizer, tokenizers.Tokenizer]) -> Tokenizer:
    return imported[0]


@pytest.fixture(scope="module")
def small(ours: Tokenizer) -> Shrunk:
    return shrink(ours, KEPT)


def test_the_corpus_is_cut_as_before_and_tokens_are_fewer(ours: Tokenizer, small: Shrunk) -> None:
    for text in KEPT:
        ids = small.tokenizer.encode(text)
        assert [small.kept[i] for i in ids] == ours.encode(text)
        assert small.tokenizer.decode(ids) == ours.decode(ours.encode(text))
    assert small.tokenizer.vocab_size == len(small.kept) < ours.vocab_size


def test_each_token_that_is_left_is_the_one_that_it_was(ours: Tokenizer, small: Shrunk) -> None:
    new, old = small.tokenizer, ours
    names = [new.backend.id_to_token(i) for i in range(new.vocab_size)]
    assert names == [old.backend.id_to_token(i) for i in small.kept]
    assert [new.token_bytes(i) for i in range(new.vocab_size)] == [old.token_bytes(i) for i in small.kept]
    assert list(small.kept) == sorted(small.kept)


def test_special_and_added_tokens_stay_and_are_found(ours: Tokenizer, small: Shrunk) -> None:
    assert small.tokenizer.special_tokens.keys() == ours.special_tokens.keys()
    old = {token.content: token.special for token in ours.backend.get_added_tokens_decoder().values()}
    new = small.tokenizer.backend.get_added_tokens_decoder()
    assert {token.content: token.special for token in new.values()} == old
    text = " ".join(["나는", *ours.special_tokens, "학교에"])
    assert [small.kept[i] for i in small.tokenizer.encode_special(text)] == ours.encode_special(text)


def test_a_frame_has_the_new_ids(ours: Tokenizer, small: Shrunk) -> None:
    ids, types = small.tokenizer.encode_framed(KEPT[0], KEPT[1])
    assert ([small.kept[i] for i in ids], types) == ours.encode_framed(KEPT[0], KEPT[1])


def test_frames_of_every_kind_have_the_new_ids() -> None:
    bert = train_bpe_for_encoders(KEPT * 3, vocab_size=290)
    for processor in (
        processors.RobertaProcessing(("[SEP]", 2), ("[CLS]", 1)),
        processors.Sequence([processors.ByteLevel(), processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))]),
        processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]),
    ):
        made = tokenizers.Tokenizer.from_str(bert.backend.to_str())
        made.post_processor = processor
        base = Tokenizer(made.to_str())
        shrunk = shrink(base, ["나는"])
        ids, _ = shrunk.tokenizer.encode_framed("나는")
        assert [shrunk.kept[i] for i in ids] == base.encode_framed("나는")[0]


def test_transformers_loads_it_with_the_same_ids(small: Shrunk, tmp_path: Path) -> None:
    small.tokenizer.config["added_tokens_decoder"] = {}
    small.tokenizer.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in KEPT:
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert ids == small.tokenizer.encode_special(text)


def test_old_ids_in_the_configuration_are_gone(tmp_path: Path) -> None:
    """transformers would believe them."""
    base = ByteTokenizer()
    base.config["added_tokens_decoder"] = {"700": {"content": "<a>", "special": True}}
    shrunk = shrink(base, KEPT)
    shrunk.tokenizer.save(tmp_path)
    assert "added_tokens_decoder" not in json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.encode(KEPT[0], add_special_tokens=False) == shrunk.tokenizer.encode(KEPT[0])


@pytest.fixture(scope="module")
def with_ascii(korean: Tokenizer) -> Shrunk:
    return shrink(korean, ["가"], keeps_ascii=True)


@given(text=st.text(max_size=40))
def test_where_there_are_bytes_any_text_still_has_a_spelling(
    korean: Tokenizer, with_ascii: Shrunk, text: str
) -> None:
    small = with_ascii.tokenizer
    assert small.decode(small.encode(text)) == korean.decode(korean.encode(text))


@given(text=st.text(st.characters(max_codepoint=127), max_size=40))
def test_with_ascii_kept_english_and_code_are_cut_as_before(
    korean: Tokenizer, with_ascii: Shrunk, text: str
) -> None:
    assert [with_ascii.kept[i] for i in with_ascii.tokenizer.encode(text)] == korean.encode(text)


def test_an_expansion_shrinks_back_to_its_base_on_text_without_hangul() -> None:
    base = ByteTokenizer()
    grown = expand(base, KEPT * 2, num_added=30)
    shrunk = shrink(grown, ["plain text"])
    assert shrunk.kept == tuple(range(base.vocab_size))
    assert shrunk.tokenizer.encode(KEPT[0]) == base.encode(KEPT[0])


def test_ids_that_are_asked_for_stay(korean: Tokenizer) -> None:
    assert 399 not in shrink(korean, ["가"]).kept
    assert 399 in shrink(korean, ["가"], keep=[399]).kept


def test_what_cannot_be_shrunk_is_refused(korean: Tokenizer) -> None:
    with pytest.raises(TokenizerError, match="the corpus is empty"):
        shrink(korean, [])
    with pytest.raises(TokenizerError, match="id 400 is to be kept, but it is of no token"):
        shrink(korean, KEPT, keep=[400])
