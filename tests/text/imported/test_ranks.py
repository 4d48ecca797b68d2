"""tiktoken and Tekken: vocabularies that are byte strings and ranks."""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import tiktoken_ext.openai_public
from hypothesis import given, settings
from hypothesis import strategies as st
from mistral_common.tokens.tokenizers.tekken import Tekkenizer

from malmoi.core.errors import TokenizerError
from malmoi.text.imported.byte_level import from_ranks
from malmoi.text.imported.patterns import ENCODINGS
from malmoi.text.imported.ranks import merges_of
from malmoi.text.tokenizer import Tokenizer
from malmoi.text.training import train_bpe

from .samples import ANY_TEXT, KOREAN, MISTRAL, MIXED_TEXT, TEXTS

BYTES = {bytes([byte]): byte for byte in range(256)}


@cache
def learned_ranks() -> dict[bytes, int]:
    trained = train_bpe(TEXTS * 2, vocab_size=600, special_tokens=())
    return BYTES | {trained.token_bytes(i): i for i in range(256, 600)}


def write(file: Path, ranks: dict[bytes, int]) -> Path:
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()]
    file.write_text("".join(lines), "ascii")
    return file


def converted(ranks: dict[bytes, int], pattern: str) -> Tokenizer:
    return Tokenizer(json.dumps(from_ranks(ranks, pattern=pattern, special={})))


@cache
def tekken() -> tuple[Tokenizer, Tekkenizer]:
    file = MISTRAL / "tekken_240911.json"
    return Tokenizer.load(file), Tekkenizer.from_file(file)


def test_tekken_gives_the_ids_of_mistral_common() -> None:
    ours, theirs = tekken()
    assert ours.vocab_size == theirs.n_words
    assert all(ours.encode(text) == theirs.encode(text, bos=False, eos=False) for text in TEXTS)
    assert ours.decode(ours.encode(KOREAN)) == KOREAN
    special = {theirs.id_to_piece(i): i for i in range(theirs.num_special_tokens)}
    assert ours.special_tokens == special
    assert (ours.config["bos_token"], ours.config["eos_token"]) == ("<s>", "</s>")


@given(ANY_TEXT | MIXED_TEXT)
def test_tekken_gives_the_ids_of_mistral_common_on_any_text(text: str) -> None:
    ours, theirs = tekken()
    assert ours.encode(text) == theirs.encode(text, bos=False, eos=False)
    assert ours.decode(ours.encode(text)) == text


@pytest.mark.slow
def test_the_first_tekken_gives_the_ids_of_mistral_common() -> None:
    file = MISTRAL / "tekken_240718.json"
    ours, theirs = Tokenizer.load(file), Tekkenizer.from_file(file)
    assert all(ours.encode(text) == theirs.encode(text, bos=False, eos=False) for text in TEXTS)


@cache
def openai(name: str) -> dict[str, Any]:
    """An encoding of tiktoken, with ranks that we learned: its own are not on this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiktoken_ext.openai_public, "load_tiktoken_bpe", lambda *_, **__: learned_ranks())
        encoding: dict[str, Any] = tiktoken_ext.openai_public.ENCODING_CONSTRUCTORS[name]()
        return encoding


@cache
def both(name: str) -> tuple[Tokenizer, tiktoken.Encoding]:
    theirs = tiktoken.Encoding(**openai(name) | {"special_tokens": {}, "explicit_n_vocab": None})
    return converted(learned_ranks(), ENCODINGS[name].pattern), theirs


@pytest.mark.parametrize("name", ["r50k_base", "p50k_base", "cl100k_base", "o200k_base"])
def test_an_encoding_cuts_words_as_tiktoken_does(name: str) -> None:
    @given(ANY_TEXT | MIXED_TEXT)
    def on_any_text(text: str) -> None:
        ours, theirs = both(name)
        assert ours.encode(text) == theirs.encode(text)

    on_any_text()
    ours, theirs = both(name)
    assert all(ours.encode(text) == theirs.encode(text) for text in TEXTS)
    assert dict(ENCODINGS[name].special) == openai(name)["special_tokens"]


@pytest.mark.parametrize("name", list(ENCODINGS))
def test_an_encodings_control_tokens_have_ids_of_their_own(name: str) -> None:
    encoding = ENCODINGS[name]
    in_gap = 1 if name == "p50k_base" else 0  # its <|endoftext|> lies between the ranks
    assert len(set(encoding.special.values())) == len(encoding.special)
    assert min(encoding.special.values()) >= encoding.num_ranks - 24 * in_gap
    named = [token for key, token in encoding.config.items() if key.endswith("_token") and token is not True]
    assert set(named) <= encoding.special.keys()


def test_qwens_and_llamas_patterns_cut_numbers_by_one_and_by_three() -> None:
    ours = {name: converted(learned_ranks(), ENCODINGS[name].pattern) for name in ("qwen", "llama3")}
    cut = {
        name: [piece for piece, _ in tokenizer.backend.pre_tokenizer.pre_tokenize_str("it'S 2024년\n\n x")]
        for name, tokenizer in ours.items()
    }
    assert cut["qwen"] == ["it", "'S", "Ġ", "2", "0", "2", "4", "ëħĦ", "ĊĊ", "Ġx"]
    assert cut["llama3"] == ["it", "'S", "Ġ", "202", "4", "ëħĦ", "ĊĊ", "Ġx"]


@st.composite
def any_ranks(draw: st.DrawFn) -> dict[bytes, int]:
    """All bytes, and short strings over two of them in any order: parts may come later than what they make."""
    words = draw(st.lists(st.text("ab", min_size=2, max_size=5), unique=True, max_size=12))
    return BYTES | {word.encode(): 256 + rank for rank, word in enumerate(words)}


@given(any_ranks(), st.text("ab", max_size=16))
@settings(max_examples=300)
def test_merges_lead_where_ranks_lead_in_whatever_order_they_are(ranks: dict[bytes, int], text: str) -> None:
    theirs = tiktoken.Encoding("any", pat_str=r"\w+", mergeable_ranks=ranks, special_tokens={})
    assert converted(ranks, r"\w+").encode(text) == theirs.encode(text)


def test_a_token_that_no_merges_lead_to_is_found_as_a_whole_word_only() -> None:
    ranks = BYTES | {b"ab": 256, b"bc": 257, b"xbc": 258, b"abc": 259, b"abcd": 260}
    merges, is_complete = merges_of(ranks | {b"acx": 261})
    assert (b"b", b"c") in merges
    assert not is_complete
    tokenizer = converted(ranks | {b"acx": 261}, r"\w+")
    assert tokenizer.encode("acx") == [261]
    assert tokenizer.encode("acxa") == [*b"acxa"]


def test_a_file_of_tiktoken_is_read_by_pattern_or_by_name(tmp_path: Path) -> None:
    file = write(tmp_path / "own.tiktoken", learned_ranks())
    ours = Tokenizer.convert(file, pattern=ENCODINGS["cl100k_base"].pattern)
    assert [ours.encode(text) for text in TEXTS] == [both("cl100k_base")[1].encode(text) for text in TEXTS]
    with pytest.raises(TokenizerError, match="which encoding this is is not known"):
        Tokenizer.load(tmp_path)
    with pytest.raises(TokenizerError, match="llama3 has 128000 ranks, and the file 600"):
        Tokenizer.convert(file, encoding="llama3")
    with pytest.raises(TokenizerError, match="'gpt9' is not known"):
        Tokenizer.convert(file, encoding="gpt9")
    with pytest.raises(TokenizerError, match="Give one of the two"):
        Tokenizer.convert(file, encoding="llama3", pattern="x")
    for pattern, message in (
        (r"\p{N}{1,3}+", "repeat a repetition"),
        (r"\s+$", r"Write \\z instead"),
        ("(", r"own\.tiktoken: the pattern '\(' \(--pattern\) is no regular expression: .*parenthes"),
    ):
        with pytest.raises(TokenizerError, match=message):
            Tokenizer.convert(file, pattern=pattern)
    Tokenizer.convert(file, pattern=r"[$}]+|\p{L}+|\$+")


def test_llama_3s_file_is_known_though_it_is_called_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its content, whose hash is a small file's here."""
    file = write(tmp_path / "tokenizer.model", learned_ranks())
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    special = {token: i - 128_000 + 600 for token, i in ENCODINGS["llama3"].special.items()}
    small = replace(ENCODINGS["llama3"], num_ranks=600, sha256=digest, special=special)
    monkeypatch.setitem(ENCODINGS, "llama3", small)
    ours = Tokenizer.load(tmp_path)
    assert ours.special_tokens["<|eot_id|>"] == 609
    assert ours.vocab_size == 856
    assert ours.encode_special("<|eot_id|>") == [609]
    assert 609 not in ours.encode("<|eot_id|>")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("YQ== x", "line 257: .* not base64 and a number"),
        ("a 1", "line 257"),
        ("YQ== 300", "has a rank already"),
        ("YWI= 255", "share an id"),
        (f"{base64.b64encode(b'a' * 3000).decode()} 256", "a token has 3000 bytes"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = write(tmp_path / "x.tiktoken", BYTES)
    with file.open("a") as opened:
        opened.write(line + "\n")
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.convert(file, pattern=r"\w+")


def small_tekken() -> dict[str, Any]:
    entries = [
        {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
        for token, rank in learned_ranks().items()
    ]
    config = {
        "pattern": ENCODINGS["o200k_base"].pattern, "num_vocab_tokens": 600, "default_vocab_size": 620,
        "default_num_special_tokens": 30, "version": "v3",
    }  # fmt: skip
    return {"config": config, "vocab": entries}


def change(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda data: data["config"].__setitem__(key, value)


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (change("default_vocab_size", 800), "ask for the ranks 0 to 769"),
        (change("version", "v11"), "without special_tokens"),
        (change("version", "x"), "not a Tekken file"),
        (change("default_num_special_tokens", 3), "do not fit into 3 places"),
        (lambda data: data["vocab"].pop(5), "ask for the ranks"),
        (lambda data: data["vocab"][0].pop("rank"), "not a Tekken file: KeyError"),
        (lambda data: data.pop("config"), "not a Tekken file: KeyError"),
    ],
)
def test_a_broken_tekken_file_is_refused(
    tmp_path: Path, breaking: Callable[[dict[str, Any]], Any], message: str
) -> None:
    data = small_tekken()
    file = tmp_path / "tekken.json"
    file.write_text(json.dumps(data))
    ours, theirs = Tokenizer.load(tmp_path), Tekkenizer.from_file(file)
    assert ours.encode(KOREAN) == theirs.encode(KOREAN, bos=False, eos=False)
    breaking(data)
    file.write_text(json.dumps(data))
    with pytest.raises(TokenizerError, match=message):
        Tokenizer.load(tmp_path)


def test_tekkens_own_list_of_control_tokens_is_used(tmp_path: Path) -> None:
    listed = [
        {"rank": 0, "token_str": "<s>", "is_control": True},
        {"rank": 1, "token_str": "[THINK]", "is_control": False},
    ]
    (tmp_path / "tekken.json").write_text(json.dumps(small_tekken() | {"special_tokens": listed}))
    ours = Tokenizer.load(tmp_path)
    assert list(ours.special_tokens)[:3] == ["<s>", "[THINK]", "<SPECIAL_2>"]
    assert "eos_token" not in ours.config
