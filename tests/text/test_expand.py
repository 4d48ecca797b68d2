import json
import re
from collections import Counter
from collections.abc import Callable
from itertools import accumulate, pairwise, takewhile
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, normalizers
from transformers import AutoTokenizer

from malmoi.core.errors import TokenizerError
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training import train_character_bpe, train_characters, train_jamo, train_unigram
from malmoi.text.vocabulary.continuing import Continuation, Piece
from malmoi.text.vocabulary.expand import expand, expand_until, tokens_per_syllable
from malmoi.text.vocabulary.growth import growth_of
from malmoi.text.vocabulary.hangul_pieces import hangul_words, has_hangul

TEXTS = [
    "우리나라의 봄은 따뜻하다. 봄이 오면 꽃이 핀다. “우리나라”의 꽃은 무궁화이다.",
    "서울에서 부산까지 2시간 40분이 걸린다. 서울에서 대전까지는 1시간이다. ㅋㅋㅋ ㅠㅠ",
    "Python은 서울에서도 쓰인다. 뷁이라고 쓰는 뷁. it's — “quoted” Seoul에서",
    "교학이는 말나에다 온말교학이에, 학나다 교학이는 말나에다.",
] * 3
KNOWN = TEXTS[3]  # words of no language, in syllables that each of the bases has
NUM_ADDED = 40

# What stands beside Hangul in real text, and letters whose bytes begin as Hangul's do.
OTHER = "abz AB  '“”—…,.!?()[]{}<>/\\=+-*#_\n\t0123 éàñß日本語漢字ㄅㄆ、。😀👨‍👩‍👧яж한"[:-1]
FOREIGN = st.text(st.one_of(st.sampled_from(OTHER), st.characters(exclude_categories=["Cs"])), max_size=60)


@pytest.fixture(scope="module")
def expanded(growable: Tokenizer) -> Tokenizer:
    return expand(growable, TEXTS, num_added=NUM_ADDED)


def is_foreign(tokenizer: Tokenizer, text: str) -> bool:
    """NFKC makes (가) of ㈎."""
    normalizer = tokenizer.backend.normalizer
    return not has_hangul(text if normalizer is None else normalizer.normalize_str(text))


def test_every_old_id_is_the_same_token_and_new_ones_come_after_all(
    growable: Tokenizer, expanded: Tokenizer
) -> None:
    old, new = growable.backend, expanded.backend
    ids = range(growable.vocab_size)
    assert [new.id_to_token(i) for i in ids] == [old.id_to_token(i) for i in ids]
    assert [expanded.token_bytes(i) for i in ids] == [growable.token_bytes(i) for i in ids]
    assert expanded.special_tokens == growable.special_tokens
    assert new.get_added_tokens_decoder() == old.get_added_tokens_decoder()
    assert expanded.vocab_size == growable.vocab_size + NUM_ADDED
    assert all(new.id_to_token(i) for i in range(growable.vocab_size, expanded.vocab_size))


@given(text=FOREIGN)
def test_text_without_hangul_keeps_its_ids(growable: Tokenizer, expanded: Tokenizer, text: str) -> None:
    if is_foreign(growable, text):
        assert expanded.encode(text) == growable.encode(text)
        assert expanded.encode_special(text) == growable.encode_special(text)


@given(text=st.text(st.sampled_from("가나다서울에서우리나라의봄뷁ㅋㅠ " + OTHER), max_size=60))
def test_text_with_hangul_has_the_same_bytes_in_no_more_tokens(
    growable: Tokenizer, expanded: Tokenizer, text: str
) -> None:
    old, new = growable.encode(text), expanded.encode(text)
    if growable.token_id("<unk>") not in old:  # which may stand for several characters
        assert len(new) <= len(old)
        assert expanded.decode(new) == growable.decode(old)


def test_korean_gets_shorter_and_comes_back(growable: Tokenizer, expanded: Tokenizer) -> None:
    assert len(expanded.encode(KNOWN)) < 0.8 * len(growable.encode(KNOWN))
    assert expanded.decode(expanded.encode(KNOWN)) == KNOWN


def test_what_stands_beside_hangul_keeps_its_tokens(growable: Tokenizer, expanded: Tokenizer) -> None:
    text = "Python은 it's 학교에서a 2024년 12월.학교에서"

    def others(tokenizer: Tokenizer) -> list[bytes]:
        pieces = [tokenizer.token_bytes(i) for i in tokenizer.encode(text)]
        return [piece for piece in pieces if piece.isascii() and piece.strip()]

    assert others(expanded) == others(growable)


def test_each_new_token_has_hangul_in_it_or_its_first_bytes(growable: Tokenizer, expanded: Tokenizer) -> None:
    for token_id in range(growable.vocab_size, expanded.vocab_size):
        piece = expanded.token_bytes(token_id).removeprefix(b" ")
        whole = piece.decode("utf-8", "ignore")
        assert all(map(has_hangul, whole.replace(" ", "")))
        assert whole or piece[0] in (0xE1, 0xE3, 0xEA, 0xEB, 0xEC, 0xED)


def test_a_space_is_part_of_the_next_word_only(growable: Tokenizer, expanded: Tokenizer) -> None:
    new = [expanded.token_bytes(i) for i in range(growable.vocab_size, expanded.vocab_size)]
    assert not any(b" " in token[1:] for token in new)


@given(
    word=st.sampled_from(sorted({*re.findall("[가-힣]+", "".join(TEXTS))})),
    behind=st.sampled_from([" –dash", " a", " 12", "  b", " ", ". ", "\n"]),
)
def test_what_follows_a_word_is_cut_as_before(
    growable: Tokenizer, expanded: Tokenizer, word: str, behind: str
) -> None:
    def cuts(tokenizer: Tokenizer) -> list[int]:
        """Where tokens begin behind the word, in bytes from the end."""
        ids = reversed(tokenizer.encode(f"“{word}{behind}"))
        starts = accumulate(len(tokenizer.token_bytes(i)) for i in ids)
        return list(takewhile(len(behind.encode()).__ge__, starts))

    assert cuts(expanded) == cuts(growable)


def test_the_same_texts_give_the_same_file_and_a_smaller_one_is_its_beginning(growable: Tokenizer) -> None:
    first, again = (expand(growable, iter(TEXTS), num_added=20) for _ in range(2))
    assert first.backend.to_str() == again.backend.to_str()
    larger = expand(growable, TEXTS, num_added=NUM_ADDED).backend
    ids = range(first.vocab_size)
    assert [first.backend.id_to_token(i) for i in ids] == [larger.id_to_token(i) for i in ids]


def test_transformers_loads_it_with_the_same_ids(
    growable: Tokenizer, expanded: Tokenizer, tmp_path: Path
) -> None:
    expanded.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*TEXTS, "".join(growable.special_tokens) + "서울에서"]:
        assert theirs.encode(text, add_special_tokens=False) == expanded.encode_special(text)


def test_special_tokens_beside_the_vocabulary_keep_their_ids() -> None:
    """The library numbers them after the vocabulary, so a longer one would move them."""
    inside = json.loads(ByteTokenizer().backend.to_str())
    inside["model"]["vocab"] = {
        token: i - 3 for token, i in inside["model"]["vocab"].items() if not token.startswith("<|")
    }
    inside["added_tokens"] = [token | {"id": token["id"] + 256} for token in inside["added_tokens"]]
    base = Tokenizer(json.dumps(inside))
    assert sorted(base.special_tokens.values()) == [256, 257, 258]
    grown = expand(base, TEXTS, num_added=5)
    assert grown.special_tokens == base.special_tokens
    assert {grown.token_id(name) for name in grown.special_tokens} == {256, 257, 258}
    assert min(i for i in grown.encode("서울에서") if i > 255) >= 259


def test_each_merge_joins_a_pair_that_is_most_frequent() -> None:
    """By a plain count of a corpus whose words the base spells in syllables."""
    words = Counter({"서울에서": 7, "서울에": 5, "부산에서": 4, "에서도": 3, "울서": 2, "산": 9})
    continuation = Continuation()
    for word, count in words.items():
        continuation.add([Piece((syllable,), syllable) for syllable in word], count=count)
    spelled = {word: list(word) for word in words}
    for piece in continuation.learn(8):
        [(left, right)] = piece.merges()
        counts: Counter[tuple[str, str]] = Counter()
        for word, symbols in spelled.items():
            for pair in pairwise(symbols):
                counts[pair] += words[word]
        assert counts[left, right] == max(counts.values()) >= 2
        for symbols in spelled.values():
            index = 0
            while index < len(symbols) - 1:
                if symbols[index : index + 2] == [left, right]:
                    symbols[index : index + 2] = [left + right]
                index += 1


def test_a_syllable_in_pieces_is_made_whole_before_it_is_joined() -> None:
    base = ByteTokenizer()
    grown = expand(base, ["뷁은 뷁이다."] * 3, num_added=11)
    pieces = [grown.token_bytes(i) for i in range(base.vocab_size, grown.vocab_size)]
    assert "뷁".encode() in pieces
    assert not any(0x80 <= piece[0] < 0xC0 for piece in pieces)  # none begins inside a character


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([b" \xea", b"\xbf\xbb"], [[" \xea\xbf\xbb"]]),
        (
            [b"\xe3", b"\x84", b"\xb1", "나".encode()],
            [["\xeb\x82\x98"]],
        ),  # E3 84 also begins Bopomofo: ㄱ or ㄅ
        ([b"\xe3\x84", b"\xb1"], [["\xe3\x84\xb1"]]),  # here nothing shorter is made
        (
            [b"\xe2\x80\x9c\xed", b"\x95\x9c", "국".encode()],
            [["\xea\xb5\xad"]],
        ),  # “한 is one group, with a quote
        ([b" ", b" ", "한".encode()], [["\xed\x95\x9c"]]),
        (
            ["한".encode(), b" ", "국".encode(), b" \xea", b"\xbf\xbb", b" "],
            [["\xed\x95\x9c"], [" ", "\xea\xb5\xad"], [" \xea\xbf\xbb"]],
        ),
        ([b" ", b"a"], []),
        ([b"\xed\x95"], []),
    ],
)
def test_only_what_is_hangul_all_the_way_is_joined(tokens: list[bytes], expected: list[list[str]]) -> None:
    spelled = [(token.decode("latin-1"), token) for token in tokens]
    words = hangul_words(spelled, is_byte_level=True, space="Ġ")
    assert [[piece.text for piece in word] for word in words] == expected


def test_until_stops_at_the_first_size_that_reaches_the_factor(growable: Tokenizer) -> None:
    grown = expand_until(growable, TEXTS, factor=1.2, held_out=TEXTS)
    num_added = grown.vocab_size - growable.vocab_size
    before = tokens_per_syllable(growable, TEXTS)
    assert before / tokens_per_syllable(grown, TEXTS) >= 1.2
    smaller = growable if num_added == 1 else expand(growable, TEXTS, num_added=num_added - 1)
    assert before / tokens_per_syllable(smaller, TEXTS) < 1.2


def wordlevel() -> Tokenizer:
    return Tokenizer(tokenizers.Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>")).to_str())


def changed(base: Tokenizer, **model: Any) -> Tokenizer:
    content = json.loads(base.backend.to_str())
    content["model"] |= model
    return Tokenizer(json.dumps(content))


@pytest.mark.parametrize(
    ("base", "texts", "num_added", "message"),
    [
        (ByteTokenizer(), TEXTS, 0, "num_added=0. Use 1 or more"),
        (ByteTokenizer(), [], 5, "no Hangul to learn from"),
        (ByteTokenizer(), ["only English"], 5, "no Hangul to learn from"),
        (ByteTokenizer(), ["한국어"], 5, r"only 0 pairs that occur twice. Give more text"),
        (ByteTokenizer(), ["한국어"] * 2, 50, r"only 8 pairs that occur twice. Use 8 or fewer"),
        (ByteTokenizer(), ["한국어"] * 2, 10**11, r"only 8 pairs that occur twice. Use 8 or fewer"),
        (wordlevel(), TEXTS, 5, "a WordLevel vocabulary has no merges to continue"),
        (changed(ByteTokenizer(), dropout=0.1), TEXTS, 5, "cannot be continued: its model has dropout=0.1"),
    ],
)
def test_what_cannot_be_expanded_is_refused(
    base: Tokenizer, texts: list[str], num_added: int, message: str
) -> None:
    with pytest.raises(TokenizerError, match=message):
        expand(base, texts, num_added=num_added)


def test_a_base_with_one_id_for_two_tokens_is_refused_before_the_corpus_is_read() -> None:
    base = ByteTokenizer()
    vocab = json.loads(base.backend.to_str())["model"]["vocab"]
    shared = changed(base, vocab=vocab | {"zz": 100})
    corpus = iter(TEXTS)
    with pytest.raises(TokenizerError, match="two tokens of the base have the id 100"):
        expand(shared, corpus, num_added=5)
    assert next(corpus) == TEXTS[0]


def test_ids_that_would_collide_are_refused() -> None:
    unigram = tokenizers.Tokenizer(models.Unigram([("<unk>", 0.0), ("한", -1.0), ("국", -2.0)], unk_id=0))
    content = json.loads(unigram.to_str())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    content["added_tokens"] = [{"id": 3, "content": "<a>", **flags}]
    assert expand(Tokenizer(json.dumps(content)), ["한국 한국"], num_added=1).token_id("한국") == 4
    content["model"]["vocab"][2] = content["model"]["vocab"][1]
    with pytest.raises(TokenizerError, match="would collide"):
        expand(Tokenizer(json.dumps(content)), ["한국 한국"], num_added=1)


@pytest.mark.parametrize(
    ("factor", "held_out", "message"),
    [
        (1.0, TEXTS, "factor=1.0. Use a number above 1"),
        (50.0, TEXTS, r"all \d+ tokens that the corpus gives make \d"),
        (1.2, ["English"], "no Hangul syllable to measure by"),
    ],
)
def test_a_target_that_cannot_be_reached_is_refused(factor: float, held_out: list[str], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        expand_until(ByteTokenizer(), TEXTS, factor=factor, held_out=held_out)


def test_a_base_that_takes_syllables_apart_is_expanded_in_jamo() -> None:
    base = ByteTokenizer()
    content = json.loads(base.backend.to_str())
    made = tokenizers.Tokenizer.from_str(json.dumps(content))
    made.normalizer = normalizers.NFD()
    base = Tokenizer(made.to_str())
    grown = expand(base, TEXTS, num_added=30)
    assert len(grown.encode(TEXTS[0])) < len(base.encode(TEXTS[0]))
    assert growth_of(grown).base is grown


@pytest.mark.parametrize(
    ("train", "vocab_size"),
    [(train_unigram, 410), (train_character_bpe, 410), (train_jamo, 474), (train_characters, 400)],
)
def test_a_space_that_is_written_as_it_is_stays_one(train: Callable[..., Tokenizer], vocab_size: int) -> None:
    base = train(TEXTS, vocab_size=vocab_size)
    grown = expand(base, TEXTS, num_added=15)
    names = [str(grown.backend.id_to_token(i)) for i in range(base.vocab_size, grown.vocab_size)]
    assert not any("▁" in name or " " in name[1:] for name in names)
    assert any(name.startswith(" ") for name in names)
    used = {i for text in TEXTS for i in grown.encode(text)}
    assert len(used.intersection(range(base.vocab_size, grown.vocab_size))) > 5
    for text in (OTHER[:-1], "a ▁ b▁c"):
        assert grown.encode(text) == base.encode(text)
    assert grown.decode(grown.encode(KNOWN + "▁가 ▁")) == KNOWN + "▁가 ▁"


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.model.v1",
        "mistral_instruct_tokenizer_240323.model.v3",
        "mistral_instruct_tokenizer_241114.model.v7",
        "tekken_240911.json",
    ],
)
def test_the_tokenizers_of_mistral_keep_every_id(name: str) -> None:
    """Real ones: SentencePiece's BPE with control tokens, and 130,000 byte-level tokens after 1,000 special ones."""
    import mistral_common

    base = Tokenizer.load(Path(mistral_common.__file__).parent / "data" / name)
    grown = expand(base, TEXTS, num_added=NUM_ADDED)
    old, new = base.backend.get_vocab(), grown.backend.get_vocab()
    assert old.items() <= new.items()
    assert {i for token, i in new.items() if token not in old} == set(
        range(base.vocab_size, base.vocab_size + NUM_ADDED)
    )
    assert grown.special_tokens == base.special_tokens
    for text in [OTHER, Path(__file__).read_text("utf-8").replace("가", "x"), *TEXTS, *base.special_tokens]:
        for line in text.splitlines():
            if not has_hangul(line):
                assert grown.encode(line) == base.encode(line)
            assert grown.decode(grown.encode(line)) == base.decode(base.encode(line))
    assert len(grown.encode(KNOWN)) < len(base.encode(KNOWN))
