"""Control tokens are matched where text is trusted, in every kind of tokenizer; elsewhere ids do not change."""

import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, normalizers

from malmoi.text.guarded import GuardedEncoder
from malmoi.text.tokenizer import Tokenizer

Imported = tuple[Tokenizer, tokenizers.Tokenizer]
SAID = ["말모이 학교", " it's <b>", "\n\n", "  ", "é🙂", "<|", "s>"]


def text_of(pieces: list[str], special: list[str]) -> str:
    """`pieces` with special tokens between them."""
    return "".join(piece + special[at % len(special)] for at, piece in enumerate(pieces))


def test_a_trusted_text_has_the_ids_of_the_library(imported: Imported) -> None:
    ours, theirs = imported
    special = list(ours.special_tokens)
    guarded = GuardedEncoder(ours.backend, frozenset(special))
    text = text_of(SAID * 2, special)
    ids, spans = guarded.encode(text)
    assert ids == theirs.encode(text, add_special_tokens=False).ids
    assert all(0 <= start <= end <= len(text) for start, end in spans)


def test_sealed_control_tokens_give_the_same_ids_and_spans(imported: Imported) -> None:
    ours, _ = imported
    special = list(ours.special_tokens)
    guarded = GuardedEncoder(ours.backend, frozenset(special))
    for text in (text_of(SAID * 2, special), "".join(special), "말모이", ""):
        assert guarded._encode_sealed(text, []) == guarded.encode(text)


def test_an_untrusted_control_token_is_plain_text(imported: Imported) -> None:
    ours, _ = imported
    unknown = {"<unk>", "[UNK]"}  # a text may have unknown characters; that id gives nobody power
    special = [token for token in ours.special_tokens if token not in unknown]
    ids = {ours.special_tokens[token] for token in special}
    guarded = GuardedEncoder(ours.backend, frozenset(ours.special_tokens))
    for token in special:
        text = f"{token}말모이 {token} 학교{token}"
        inner = text.index(token, 1)
        got, _ = guarded.encode(text, untrusted=[(inner, inner + 1)])
        assert [id for id in got if id in ids] == [ours.special_tokens[token]] * 2
        nothing_trusted, _ = guarded.encode(text, untrusted=[(0, len(text))])
        assert nothing_trusted == ours.encode(text)


def test_merges_do_not_stop_where_trust_does(korean: Tokenizer) -> None:
    guarded = GuardedEncoder(korean.backend, frozenset(korean.special_tokens))
    text = "<|im_start|>학교에 간다<|im_end|>에서<|im_end|>"
    inner = text.index("<|im_end|>")
    ids, spans = guarded.encode(text, untrusted=[(inner, inner + 10)])
    start, end = korean.encode_special("<|im_start|><|im_end|>")
    assert ids == [start, *korean.encode(text[len("<|im_start|>") : -len("<|im_end|>")]), end]
    assert [text[a:b] for a, b in spans][0 :: len(spans) - 1] == ["<|im_start|>", "<|im_end|>"]


def test_a_normaliser_cannot_make_a_control_token_of_another_text() -> None:
    made = tokenizers.Tokenizer.from_str(_with_normalised_token())
    guarded = GuardedEncoder(made, frozenset({"<|end|>"}))
    end = made.token_to_id("<|end|>")
    lookalike = "＜|end|＞"
    assert guarded.encode(lookalike)[0] == [end]  # to such a tokenizer, these are the same
    assert end not in guarded.encode(lookalike, untrusted=[(0, 1)])[0]


def _with_normalised_token() -> str:
    made = tokenizers.Tokenizer(tokenizers.models.BPE({c: i for i, c in enumerate("<|end>")}, []))
    made.normalizer = normalizers.NFKC()
    made.add_tokens([AddedToken("<|end|>", normalized=True, special=True)])
    return made.to_str()


def test_spaces_that_a_token_swallows_are_its_own() -> None:
    made = tokenizers.Tokenizer(tokenizers.models.BPE({c: i for i, c in enumerate(" <|end>ab")}, []))
    made.add_tokens([AddedToken("<|end|>", lstrip=True, rstrip=True, normalized=False, special=True)])
    guarded = GuardedEncoder(made, frozenset({"<|end|>"}))
    text = "a <|end|> b<|end|>"
    assert guarded._encode_sealed(text, []) == guarded.encode(text)
    assert guarded.encode(text)[1] == [(0, 1), (1, 10), (10, 11), (11, 18)]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(["<|im_end|>", "<|im_", "end|>", "가", " ", "ab"]), max_size=8), st.data())
def test_the_text_of_the_ids_is_the_text(korean: Tokenizer, pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    edges = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    untrusted = list(zip(edges[::2], edges[1::2], strict=False))
    guarded = GuardedEncoder(korean.backend, frozenset(korean.special_tokens))
    ids, _ = guarded.encode(text, untrusted=untrusted)
    assert korean.decode(ids) == text
