import doctest
import importlib
import json
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers

from malmoi.core.errors import TokenizerError
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.decoding import byte_of_character
from malmoi.text.plain import LONG_TEXT, encode
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training import train_bpe, train_bpe_for_encoders
from malmoi.text.vocabulary.expand import expand
from malmoi.text.vocabulary.shrink import shrink
from malmoi.text.vocabulary.superwords import add_superwords

FRAMED = train_bpe_for_encoders(["a"], vocab_size=260)
Imported = tuple[Tokenizer, tokenizers.Tokenizer]

# Pieces from which an attacker or an unlucky user may build a text.
FRAGMENTS = [
    "한국어", "학교에", "말모이", "Python", "ㅋㅋ", "ᄒ", "ᅡ", "ᆫ", "é", "él", "😀", "🇰🇷", "\u200d", "12345",
    "'ll",
    " ", "   ", "\n", "\t", "<", ">", "<|", "|>", "[", "]", "/", "s", "unk", "pad", "SEP", "CLS", "im_end",
    "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "<pad>", "[SEP]", "[CLS]", "[PAD]", "＜/s＞", "<|eot_id|>",
    "<|begin_of_text|>", "<think>", "<tool>", "<0xEA>", "▁", "##", "##다",
]  # fmt: skip
any_text = st.text() | st.lists(st.sampled_from(FRAGMENTS)).map("".join)


@given(any_text)
def test_decoding_what_was_encoded_gives_the_text_in_nfc(korean: Tokenizer, text: str) -> None:
    assert korean.decode(korean.encode(text)) == normalizers.NFC().normalize_str(text)


@given(st.binary())
def test_bytes_are_the_truth(data: bytes) -> None:
    tokenizer = ByteTokenizer()
    ids = [3 + byte for byte in data]
    assert tokenizer.decode_bytes(ids) == data
    assert tokenizer.decode(ids) == data.decode("utf-8", "replace")


@given(st.lists(st.integers(0, 399)))
def test_a_text_is_the_bytes_of_its_tokens(korean: Tokenizer, ids: list[int]) -> None:
    assert korean.decode_bytes(ids) == b"".join(map(korean.token_bytes, ids))
    plain = [i for i in ids if i not in korean.special_tokens.values()]
    assert korean.decode_bytes(ids, skip_special=True) == korean.decode_bytes(plain)


def test_the_ids_of_a_korean_text_never_change(korean: Tokenizer) -> None:
    text = "한국어 학교에 간다 ㅋㅋㅋ 2024년"
    assert korean.encode(text) == [343, 367, 370, 298, 399, 348, 278, 223, 307, 22, 334, 229]


@given(any_text)
def test_encode_never_gives_a_special_id(korean: Tokenizer, text: str) -> None:
    assert not set(korean.encode(text)) & set(korean.special_tokens.values())


@settings(max_examples=40)
@given(text=any_text)
def test_no_imported_tokenizer_lets_text_become_a_special_id(imported: Imported, text: str) -> None:
    ours, _ = imported
    control = {i for token, i in ours.special_tokens.items() if token not in ("<unk>", "[UNK]")}
    assert not set(ours.encode(text)) & control


def test_the_librarys_own_switch_would_not_do(imported: Imported) -> None:
    """Why plain.py exists: for three of the kinds a special string still gets through."""
    ours, theirs = imported
    switched = tokenizers.Tokenizer.from_str(theirs.to_str())
    switched.encode_special_tokens = True
    control = {token: i for token, i in ours.special_tokens.items() if token not in ("<unk>", "[UNK]")}
    leaks = any(i in switched.encode(token, add_special_tokens=False).ids for token, i in control.items())
    model = json.loads(theirs.to_str())["model"]["type"]
    whole_words = "WhitespaceSplit" in theirs.to_str()
    assert leaks == (model == "Unigram" or whole_words)
    assert all(i not in ours.encode(token) for token, i in control.items())


@settings(max_examples=40)
@given(text=any_text)
@example(text="a<think>b 말모이   é<tool>다")  # tokens that were added, but are not special
def test_imported_ids_are_the_librarys_where_no_special_string_stands(imported: Imported, text: str) -> None:
    ours, theirs = imported
    ids = theirs.encode(text, add_special_tokens=False).ids
    assert ours.encode_special(text) == ids
    if not set(ids) & set(ours.special_tokens.values()):
        assert ours.encode(text) == ids
        assert ours.encode_batch([text, ""]) == [ids, ours.encode("")]


@settings(max_examples=40)
@given(text=any_text)
@example(text="a<think>b<tool><think><|im_end|>")
def test_a_token_that_is_made_special_cannot_be_typed_and_trusted_text_keeps_its_ids(
    imported: Imported, text: str
) -> None:
    ours, guarded, think = _guarded(imported[1].to_str())
    assert think in ours.encode("<think>")
    assert think not in guarded.encode(text)
    assert guarded.encode_special(text) == ours.encode_special(text)
    assert guarded.decode(ours.encode_special(text)) == ours.decode(ours.encode_special(text))
    if "<think>" not in text:
        assert guarded.encode(text) == ours.encode(text)


@lru_cache
def _guarded(source: str) -> tuple[Tokenizer, Tokenizer, int]:
    """A tokenizer with a token that is not special, and with one that was made special; and its id."""
    made = tokenizers.Tokenizer.from_str(source)
    made.add_tokens(["<think>"])
    ours, think = Tokenizer(made.to_str()), made.token_to_id("<think>")
    return ours, ours.with_special([think]), think


def test_a_word_of_the_model_can_be_made_special_and_an_id_of_nothing_is_passed_over() -> None:
    model = models.WordLevel({"<unk>": 0, "<image>": 1, "말": 2}, unk_token="<unk>")
    tokenizer = Tokenizer(tokenizers.Tokenizer(model).to_str())
    assert tokenizer.encode("<image>") == [1]
    guarded = tokenizer.with_special([1, 99])
    assert (guarded.encode("<image>"), guarded.encode_special("<image>"), guarded.encode("말")) == (
        [0],
        [1],
        [2],
    )
    assert guarded.with_special([1]) is guarded
    assert tokenizer.with_special([99]) is tokenizer


@settings(max_examples=40)
@given(text=any_text)
def test_imported_text_is_the_librarys(imported: Imported, text: str) -> None:
    ours, theirs = imported
    ids = theirs.encode(text, add_special_tokens=False).ids
    if "él" in theirs.get_vocab() and "él" in text:
        return  # see the next test
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)
    assert ours.decode(ids, skip_special=True) == theirs.decode(ids, skip_special_tokens=True)


def test_an_added_token_means_its_own_string() -> None:
    """The library reads an added él in GPT-2's alphabet, where it begins with the byte 0xE9, a third of a character."""
    theirs = tokenizers.Tokenizer.from_str(ByteTokenizer().backend.to_str())
    theirs.add_tokens(["él"])
    assert theirs.decode(theirs.encode("él").ids) == "\ufffdl"
    ours = Tokenizer(theirs.to_str())
    assert [ours.decode(ours.encode(text)) for text in ("él", "é退l")] == ["él", "é退l"]


@pytest.mark.parametrize(
    "token", [AddedToken("é"), AddedToken("ê", special=True), AddedToken("Ã©"), AddedToken("Ģ")]
)
def test_an_added_token_that_shares_its_id_with_other_bytes_is_an_error(token: AddedToken) -> None:
    """The library gives an added é the id of é in GPT-2's alphabet, the byte 0xE9: 退 and é would begin alike."""
    spelled = [byte_of_character()[character] for character in token.content]
    base = train_bpe(["ééé"], vocab_size=260)  # merges C3 A9
    theirs = tokenizers.Tokenizer.from_str(base.backend.to_str())
    theirs.add_tokens([token])
    said = f"{token.content}.*{bytes(spelled).hex(' ')}.*share the id {theirs.token_to_id(token.content)}"
    with pytest.raises(TokenizerError, match=said):
        Tokenizer(theirs.to_str())


@pytest.mark.parametrize("token", ["õ", "Á", "él", "ĢĢĢĢ", "a"])
def test_an_added_token_may_share_its_id_with_bytes_that_no_text_has(token: str) -> None:
    """DeepSeek Coder adds õ, 0xF5, which begins no character. And a name of ASCII is its own bytes."""
    content = json.loads(ByteTokenizer().backend.to_str())
    content["model"]["vocab"].setdefault(token, 259)
    content["model"]["ignore_merges"] = True
    theirs = tokenizers.Tokenizer.from_str(json.dumps(content))
    theirs.add_tokens([token])
    ours, text = Tokenizer(theirs.to_str()), f"{token}退{token} é"
    assert ours.encode(text) == theirs.encode(text).ids
    assert ours.decode(ours.encode(text)) == text


@settings(max_examples=40)
@given(text=any_text)
def test_a_batch_is_its_texts_one_by_one(korean: Tokenizer, text: str) -> None:
    assert korean.encode_batch([text, "둘"]) == [korean.encode(text), korean.encode("둘")]


def test_a_long_text_has_the_ids_of_its_lines(korean: Tokenizer) -> None:
    line = "말모이는 첫 우리말 사전이다.\n"
    assert korean.encode(line * 500) == korean.encode(line) * 500
    assert len(line) < LONG_TEXT < len(line * 500)


def test_other_threads_go_on_while_a_long_text_is_encoded(korean: Tokenizer) -> None:
    text = "말모이는 첫 우리말 사전의 이름이다. " * 20_000
    begin_and_end: list[float] = []

    def work() -> None:
        begin_and_end.append(time.perf_counter())
        encode(korean.backend, text)
        begin_and_end.append(time.perf_counter())

    thread = threading.Thread(target=work)
    thread.start()
    awake = []
    while thread.is_alive():
        awake.append(time.perf_counter())
        time.sleep(0.001)
    begin, end = begin_and_end
    middle = (begin + end) / 2
    # A thread that is kept waiting may wake once before the library begins and once after it.
    assert sum(begin < moment < end for moment in awake) > 10
    assert any(begin < moment < middle for moment in awake)
    assert any(middle < moment < end for moment in awake)


def test_trusted_text_gets_special_ids(korean: Tokenizer) -> None:
    ids = korean.encode_special("<|im_start|>user\n안녕<|im_end|>\n")
    assert ids == [1, *korean.encode("user\n안녕"), 2, *korean.encode("\n")]
    assert korean.decode(ids, skip_special=True) == "user\n안녕\n"


def test_transformers_loads_what_we_save_and_gives_the_same_ids(korean: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    korean.save(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in ("말모이는 말을 모은다.\n\n  ㅋㅋ it's 2024년", "한국어", "a  b\n", ""):
        assert theirs(text).input_ids == korean.encode(text)
        assert theirs.decode(korean.encode(text)) == korean.decode(korean.encode(text))
    assert theirs("<|im_start|>네<|im_end|>").input_ids == korean.encode_special("<|im_start|>네<|im_end|>")
    assert (theirs.eos_token, theirs.pad_token, len(theirs)) == ("<|endoftext|>", "<|endoftext|>", 400)


def test_the_end_token_can_be_set(korean: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    korean.save(tmp_path)
    chatty = Tokenizer.load(tmp_path)
    chatty.config["eos_token"] = "<|im_end|>"
    chatty.save(tmp_path)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path).eos_token_id == 2


def test_saving_and_loading_changes_nothing(imported: Imported, tmp_path: Path) -> None:
    ours, _ = imported
    ours.save(tmp_path / "a")
    again = Tokenizer.load(tmp_path / "a")
    again.save(tmp_path / "b")
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()
    assert (again.special_tokens, again.vocab_size) == (ours.special_tokens, ours.vocab_size)
    assert Tokenizer.load(tmp_path / "a/tokenizer.json").encode("학교에 간다") == ours.encode("학교에 간다")


def with_added(base: Tokenizer, **ids: int) -> dict[str, Any]:
    """A file of `base` that says which ids added tokens have; the library numbers them as it likes."""
    content: dict[str, Any] = json.loads(base.backend.to_str())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    content["added_tokens"] += [
        {"id": token_id, "content": f"<{name}>", **flags} for name, token_id in ids.items()
    ]
    return content


@given(ids=st.lists(st.integers(0, 265), min_size=1, max_size=3, unique=True))
def test_a_file_is_refused_if_an_added_token_is_not_where_it_says(ids: list[int]) -> None:
    content = with_added(
        train_bpe(["말모이"] * 3, vocab_size=262), **{f"x{number}": i for number, i in enumerate(ids)}
    )
    theirs = tokenizers.Tokenizer.from_str(json.dumps(content))
    moved = [
        token for token in content["added_tokens"] if theirs.token_to_id(token["content"]) != token["id"]
    ]
    ours = Tokenizer(json.dumps(content))
    if not moved:
        ours.require_stated_ids()
        return
    name, stated = moved[0]["content"], moved[0]["id"]
    said = (
        f"states the id {stated} for the added token '{name}', but it is loaded as {theirs.token_to_id(name)}"
    )
    with pytest.raises(TokenizerError, match=said):
        ours.require_stated_ids()


@pytest.mark.parametrize(
    "change",
    [
        lambda base: expand(base, ["말모이"] * 9, num_added=1),
        lambda base: add_superwords(base, ["말모이"] * 9, num_added=1),
        lambda base: shrink(base, ["말모이"]),
    ],
    ids=["expand", "superwords", "shrink"],
)
def test_a_file_whose_added_token_is_elsewhere_is_not_changed(change: Callable[[Tokenizer], object]) -> None:
    base = train_bpe(["말모이 사전"] * 3, vocab_size=265)
    with pytest.raises(
        TokenizerError, match="states the id 260 for the added token '<x>', but it is loaded as 265"
    ):
        change(Tokenizer(json.dumps(with_added(base, x=260))))
    change(Tokenizer(json.dumps(with_added(base, x=265))))


@pytest.mark.parametrize("token_id", [2**31, 2**32 - 1])
def test_an_id_that_leaves_no_room_for_others_is_refused_by_file(tmp_path: Path, token_id: int) -> None:
    content = json.loads(ByteTokenizer()._source)
    file = tmp_path / "tokenizer.json"
    for last in (token_id, 2**31 - 1):
        content["model"]["vocab"]["ab"] = last
        file.write_text(json.dumps(content))
        if last < 2**31:
            assert Tokenizer.load(file).vocab_size == 2**31
        else:
            with pytest.raises(
                TokenizerError, match=rf"tokenizer\.json: a token has the id {last}, and ids go up to"
            ):
                Tokenizer.load(file)


def test_the_examples_are_true() -> None:
    module = importlib.import_module("malmoi.text.tokenizer")
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("was_there", [False, True])
def test_both_files_of_a_tokenizer_are_saved_or_neither(tmp_path: Path, was_there: bool) -> None:
    out = tmp_path / "out"
    if was_there:
        train_bpe(["a"], vocab_size=259).save(out)
        (out / "tokenizer_config.json").unlink()
    (out / "tokenizer_config.json").mkdir(parents=True)
    before = {path.name: path.is_dir() or path.read_bytes() for path in out.iterdir()}
    with pytest.raises(TokenizerError, match=r"cannot write .*tokenizer_config\.json.*unchanged"):
        train_bpe(["말모이"] * 3, vocab_size=262).save(out)
    assert {path.name: path.is_dir() or path.read_bytes() for path in out.iterdir()} == before


def test_nothing_is_truncated_or_padded_whatever_the_file_says(imported: Imported) -> None:
    ours, _ = imported
    assert len(ours.encode("학교 " * 50)) >= 50
    assert ours.encode("") == ours.encode_special("") == []
    assert ours.encode_batch(["학교", "학교에 간다"])[0] == ours.encode("학교")


@pytest.mark.parametrize("token_id", [-1, 400, 10**9])
def test_an_id_outside_of_the_vocabulary_is_refused_by_name(korean: Tokenizer, token_id: int) -> None:
    with pytest.raises(TokenizerError, match=f"id {token_id} is outside of the vocabulary, 0 to 399"):
        korean.decode([5, token_id])


def test_an_id_in_a_gap_of_the_vocabulary_stands_for_nothing() -> None:
    content = json.loads(ByteTokenizer()._source)
    content["model"]["vocab"]["ab"] = 300
    gappy = Tokenizer(json.dumps(content))
    assert gappy.vocab_size == 301
    assert gappy.decode([3 + 0x61, 299, 300]) == "aab"


def test_half_a_surrogate_pair_is_refused(korean: Tokenizer) -> None:
    for call in (korean.encode, korean.encode_special, lambda text: korean.encode_batch(["", text])):
        with pytest.raises(TokenizerError, match=r"U\+D83D at 2"):
            call("가나\ud83d")


def test_bad_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"has no tokenizer: none of tokenizer\.json"):
        Tokenizer.load(tmp_path)
    file = tmp_path / "tokenizer.json"
    for content in (b"", b"[]", b"{}", b'{"model": 1}', "한국".encode("cp949")):
        file.write_bytes(content)
        with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
            Tokenizer.load(tmp_path)
    ByteTokenizer().save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json"):
        Tokenizer.load(tmp_path)


def test_a_decoder_that_looks_at_neighbours_is_refused() -> None:
    content = json.loads(ByteTokenizer()._source)
    content["decoder"] = {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True}
    with pytest.raises(TokenizerError, match=r"CTC.*does not work token by token"):
        Tokenizer(json.dumps(content))


LLAMA2 = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
)


@pytest.mark.parametrize(
    ("decoder", "token", "at_start", "later"),
    [
        (decoders.ByteLevel(), "Ġíķľ", b" \xed\x95\x9c", b" \xed\x95\x9c"),
        (decoders.ByteLevel(), "íķ", b"\xed\x95", b"\xed\x95"),
        (LLAMA2, "▁한", "한".encode(), " 한".encode()),
        (LLAMA2, "한", "한".encode(), "한".encode()),
        (LLAMA2, "<0xED>", b"\xed", b"\xed"),
        (LLAMA2, "<0x20>", b"", b" "),
        (decoders.Metaspace(), "▁한", "한".encode(), " 한".encode()),
        (decoders.Metaspace(prepend_scheme="never"), "▁한", " 한".encode(), " 한".encode()),
        (decoders.WordPiece(), "한", "한".encode(), " 한".encode()),
        (decoders.WordPiece(), "##다", "##다".encode(), "다".encode()),
        (decoders.WordPiece(), ".", b".", b"."),
        (None, "한국", "한국".encode(), " 한국".encode()),
    ],
)
def test_token_bytes_are_what_a_token_adds_to_a_text(
    decoder: decoders.Decoder | None, token: str, at_start: bytes, later: bytes
) -> None:
    made = tokenizers.Tokenizer(models.WordLevel({token: 0}, unk_token=token))
    if decoder is not None:
        made.decoder = decoder
    ours = Tokenizer(made.to_str())
    assert (ours.token_bytes(0, at_start=True), ours.token_bytes(0)) == (at_start, later)
    assert ours.decode_bytes([0, 0]) == at_start + later


@settings(max_examples=40)
@given(text=any_text, pair=st.none() | any_text)
def test_a_frame_is_the_librarys_around_plain_text(imported: Imported, text: str, pair: str | None) -> None:
    """Whatever the file puts around texts; what is between is what `encode` makes of them."""
    ours, theirs = imported
    ids, types = ours.encode_framed(text, pair)
    wanted = theirs.encode("", None if pair is None else "")
    added = [
        token for token, is_added in zip(wanted.ids, wanted.special_tokens_mask, strict=True) if is_added
    ]
    plain = ours.encode(text) + ([] if pair is None else ours.encode(pair))
    assert sorted(ids) == sorted(plain + added)
    assert len(types) == len(ids)
    if pair is None:
        assert not any(types)


@given(text=any_text, pair=any_text)
def test_a_frame_for_encoders_keeps_two_texts_apart(text: str, pair: str) -> None:
    cls, sep = 1, 2
    first, second = FRAMED.encode(text), FRAMED.encode(pair)
    assert FRAMED.encode_framed(text) == ([cls, *first, sep], [0] * (len(first) + 2))
    ids, types = FRAMED.encode_framed(text, pair)
    assert ids == [cls, *first, sep, *second, sep]
    assert types == [0] * (len(first) + 2) + [1] * (len(second) + 1)


def test_half_a_character_in_either_text_is_refused() -> None:
    for texts in (("\ud83d",), ("가", "\ud83d")):
        with pytest.raises(TokenizerError, match="half a character"):
            FRAMED.encode_framed(*texts)
