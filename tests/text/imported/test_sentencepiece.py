"""SentencePiece models, Mistral's real ones and small ones of every kind, against `sentencepiece` itself."""

import contextlib
import itertools
import tempfile
import unicodedata
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2 as model_pb2
from tokenizers import models

from malmoi.core.errors import TokenizerError
from malmoi.text.imported.charsmap import CharsMap
from malmoi.text.imported.replacements import normalizers_of
from malmoi.text.imported.wire import read_message
from malmoi.text.stream import DecodeStream
from malmoi.text.tokenizer import Tokenizer

from .samples import ANY_TEXT, MISTRAL, MIXED_TEXT, TEXTS, train_sentencepiece

REAL = [
    "tokenizer.model.v1",
    "mistral_instruct_tokenizer_240216.model.v2",
    "mistral_instruct_tokenizer_240323.model.v3",
    "mistral_instruct_tokenizer_241114.model.v7",
]
KINDS = list(itertools.product(("bpe", "unigram"), ("identity", "nmt_nfkc"), (False, True), (False, True)))


@cache
def trained(algorithm: str, rule: str, has_bytes: bool, has_symbols: bool) -> bytes:
    symbols = {"user_defined_symbols": ["<sep>", "(", "한국"]} if has_symbols else {}
    return train_sentencepiece(algorithm, rule, has_bytes, **symbols)


@cache
def both(model: bytes) -> tuple[Tokenizer, sentencepiece.SentencePieceProcessor]:
    return convert(model), sentencepiece.SentencePieceProcessor(model_proto=model)


def convert(model: bytes) -> Tokenizer:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "small.model"
        file.write_bytes(model)
        return Tokenizer.convert(file)


def check(model: bytes, text: str) -> None:
    ours, theirs = both(model)
    ids, expected = ours.encode(text), theirs.encode(text)
    if isinstance(ours.backend.model, models.Unigram):
        # Of equally likely cuts rounding chooses one: the same pieces then, in another order.
        ids, expected = sorted(ids), sorted(expected)
    assert ids == expected


@cache
def real(name: str) -> bytes:
    return (MISTRAL / name).read_bytes()


@pytest.mark.parametrize("name", REAL)
def test_mistrals_models_give_the_ids_of_sentencepiece(name: str) -> None:
    ours, theirs = both(real(name))
    assert ours.vocab_size == theirs.vocab_size()
    for text in [*TEXTS, "[REF]<0x41>[/REF] [REFERENCE_DOC_1][REFERENCE_DOC_12]", " " * 100 + "x"]:
        assert ours.encode(text) == theirs.encode(text)
        assert ours.decode(ours.encode(text)) == text.replace("▁", " ")
    roles = [ours.config[f"{role}_token"] for role in ("bos", "eos", "unk")]
    assert roles == ["<s>", "</s>", "<unk>"]


@pytest.mark.parametrize("name", [REAL[0], REAL[-1]])
def test_mistrals_models_give_the_ids_of_sentencepiece_on_any_text(name: str) -> None:
    @given(ANY_TEXT | MIXED_TEXT)
    def on_any_text(text: str) -> None:
        ours, theirs = both(real(name))
        assert ours.encode(text) == theirs.encode(text)
        assert ours.decode(ours.encode(text)) == text.replace("▁", " ")
        stream = DecodeStream(ours)
        pieces = [stream.push(token_id) for token_id in ours.encode(text)] + [stream.finish()]
        assert "".join(pieces) == text.replace("▁", " ")

    on_any_text()


@pytest.mark.parametrize(("algorithm", "rule", "has_bytes", "has_symbols"), KINDS)
def test_a_model_of_any_kind_gives_the_ids_of_sentencepiece(
    algorithm: str, rule: str, has_bytes: bool, has_symbols: bool
) -> None:
    model = trained(algorithm, rule, has_bytes, has_symbols)
    # What becomes of a mark or a jamo behind a replaced or composed character, Unicode says here: normalizers_of.
    normalised = partial(st.builds, unicodedata.normalize, st.sampled_from(["NFC", "NFD"]))
    no_marks = st.text(st.characters(exclude_categories=["Cs", "Cn", "M"]), max_size=40)
    symbols = st.lists(st.sampled_from(["<sep>", "(", "한국", "<ctl>", "<0x41>", " ", "한", "국", "a", "ᄒ"]))

    @given(normalised(no_marks), normalised(MIXED_TEXT), symbols.map("".join))
    def on_any_text(any_text: str, mixed: str, with_symbols: str) -> None:
        for text in (any_text, mixed, with_symbols):
            check(model, text)

    on_any_text()
    for text in TEXTS:
        check(model, text)


@pytest.mark.parametrize("algorithm", ["bpe", "unigram"])
@pytest.mark.parametrize(
    "options",
    [
        {"add_dummy_prefix": False, "remove_extra_whitespaces": False},
        {
            "add_dummy_prefix": False,
            "user_defined_symbols": ["<sep>", "\n", "\n\n", "▁▁", "▁▁▁", "<unused1>"],
        },
        {"remove_extra_whitespaces": False, "user_defined_symbols": ["<sep>", "▁▁"]},
        {"split_by_whitespace": False},
        {"split_digits": True, "allow_whitespace_only_pieces": True, "pad_id": 3},
    ],
)
def test_what_is_done_with_spaces_is_sentencepieces(algorithm: str, options: dict[str, Any]) -> None:
    model = train_sentencepiece(algorithm, "identity", True, **options)

    @given(MIXED_TEXT | st.text("a \n▁가", max_size=20))
    def on_any_text(text: str) -> None:
        check(model, text)

    on_any_text()
    for text in [*TEXTS, "a<sep>b <sep><unused1>\n\n\n", "   ", "▁▁▁▁▁"]:
        check(model, text)


def test_control_tokens_cannot_be_typed_and_bytes_neither() -> None:
    for algorithm in ("bpe", "unigram"):
        ours, _ = both(trained(algorithm, "identity", True, True))
        assert ours.special_tokens.keys() == {"<unk>", "<s>", "</s>", "<ctl>"}
        assert ours.encode_special("<ctl>")[-1] == ours.special_tokens["<ctl>"]
        for text in ("<ctl>", "<sep><ctl>", "<0x41>", "<sep><0x41>", "<0xEA>"):
            assert ours.special_tokens["<ctl>"] not in ours.encode(text)
            assert ours.decode(ours.encode(text)) == text


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param("nfkc", marks=pytest.mark.slow),
        "nmt_nfkc",
        pytest.param("nfkc_cf", marks=pytest.mark.slow),
        "nmt_nfkc_cf",
    ],
)
def test_every_character_is_normalised_as_sentencepiece_does(rule: str) -> None:
    model = train_sentencepiece("bpe", rule, False)
    ours, _ = both(model)
    theirs = sentencepiece.SentencePieceNormalizer(model_proto=model)
    # U+FDD0 and on, which Unicode keeps free, stand for characters that stay as they are.
    characters = [
        chr(code) for code in range(1, 0x3_0000) if not (0xD800 <= code < 0xE000 or 0xFDD0 <= code < 0xFDF0)
    ]
    normalizer = ours.backend.normalizer
    assert [c for c in characters if normalizer.normalize_str(f"|{c}|") != theirs.normalize(f"|{c}|")] == []
    syllables = "".join(map(chr, range(0xAC00, 0xD7A4)))
    assert normalizer.normalize_str(unicodedata.normalize("NFD", syllables)) == f"▁{syllables}"


def changed(model: bytes, **fields: Any) -> bytes:
    """A model with other settings: `normalizer_spec__name="x"`."""
    message = model_pb2.ModelProto()
    message.ParseFromString(model)
    for path, value in fields.items():
        spec, _, field = path.partition("__")
        setattr(getattr(message, spec), field, value)
    content: bytes = message.SerializeToString()
    return content


def load(model: bytes, tmp_path: Path) -> Tokenizer:
    (tmp_path / "tokenizer.model").write_bytes(model)
    return Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"normalizer_spec__name": "user_defined"}, "no tokenizer.json can hold another"),
        ({"normalizer_spec__escape_whitespaces": False}, "escape_whitespaces"),
        ({"normalizer_spec__precompiled_charsmap": b"\xff\xff\xff\xff\0"}, "table of replacements is broken"),
        ({"denormalizer_spec__precompiled_charsmap": b"x"}, "while decoding"),
        ({"trainer_spec__treat_whitespace_as_suffix": True}, "treat_whitespace_as_suffix"),
        ({"trainer_spec__model_type": 3}, "its algorithm is word. Supported: unigram, bpe"),
        ({"trainer_spec__byte_fallback": True}, "does not have all 256"),
    ],
)
def test_what_no_tokenizer_json_can_say_is_refused(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    model = trained("bpe", "nmt_nfkc", False, False)
    with pytest.raises(TokenizerError, match=f"tokenizer.model: .*{message}"):
        load(changed(model, **fields), tmp_path)


def test_pieces_that_no_merges_can_tell_apart_are_refused(tmp_path: Path) -> None:
    message = model_pb2.ModelProto()
    message.ParseFromString(trained("bpe", "identity", False, False))
    long = [piece for piece in message.pieces if len(piece.piece) > 1 and piece.type == 1]
    long[0].score = long[1].score = -7.0
    with pytest.raises(TokenizerError, match="have the same score"):
        load(message.SerializeToString(), tmp_path)
    long[0].score, long[1].score, long[1].type = -7.0, -8.0, 5
    with pytest.raises(TokenizerError, match="is marked unused"):
        load(message.SerializeToString(), tmp_path)
    long[1].type, long[1].piece = 1, "가\u2603"
    with pytest.raises(TokenizerError, match="'☃' is in a piece, but is no piece itself"):
        load(message.SerializeToString(), tmp_path)
    long[1].piece = long[0].piece
    with pytest.raises(TokenizerError, match="one of them twice"):
        load(message.SerializeToString(), tmp_path)


def test_a_symbol_that_normalising_would_change_is_refused(tmp_path: Path) -> None:
    model = train_sentencepiece("bpe", "nmt_nfkc", False, user_defined_symbols=["①"])
    with pytest.raises(TokenizerError, match="the user-defined symbol '①' would be normalised to '1'"):
        load(model, tmp_path)


@given(st.data())
@settings(max_examples=10)
def test_a_hostile_file_is_an_error_and_nothing_else(data: st.DataObject) -> None:
    model = bytearray(trained("unigram", "nmt_nfkc", False, False))
    where = st.integers(0, len(model) - 1) | st.integers(0, 3000)
    for at, byte in data.draw(st.lists(st.tuples(where, st.integers(0, 255)), min_size=1, max_size=8)):
        model[at] = byte
    end = data.draw(st.integers(0, len(model)))
    for content in (bytes(model), bytes(model[:end])):
        with contextlib.suppress(TokenizerError):
            convert(content)


@given(
    st.lists(
        st.tuples(st.integers(0, 2**18) | st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=8
    ),
    ANY_TEXT,
)
@example([(221360, 0xC5)], "")  # a replacement that is not UTF-8
@example([(7, 0x80)], "")  # the root is a leaf
@settings(max_examples=10)
def test_a_hostile_table_of_replacements_stops_no_program(changes: list[tuple[int, int]], text: str) -> None:
    """A table that is taken works on any text, though the library does not look where it points."""
    table = bytearray(charsmap())
    for at, byte in changes:
        table[at % len(table)] = byte
    model = changed(
        trained("bpe", "nmt_nfkc", False, False), normalizer_spec__precompiled_charsmap=bytes(table)
    )
    with contextlib.suppress(TokenizerError):
        convert(model).encode(text + "①한A🄂ﾞ")


@pytest.mark.parametrize(
    ("at", "byte", "why"),
    [
        (24, 130, "the leaf of <\u0338 points inside of a character"),
        (817, 69, "the first byte of 가 ends a key that has no leaf"),
        (7, 0x80, "the root is a leaf"),
        (221360, 0xC5, "a replacement is not UTF-8"),
    ],
)
def test_a_table_that_would_stop_the_library_is_refused(at: int, byte: int, why: str) -> None:
    table = bytearray(charsmap())
    assert CharsMap(bytes(table)).find("<\u0338") == "≮"
    table[at] = byte
    with pytest.raises(TokenizerError, match="table of replacements is broken"):
        pytest.fail(f"taken, though {why}: {CharsMap(bytes(table))}")


@cache
def charsmap() -> bytes:
    message = model_pb2.ModelProto()
    message.ParseFromString(trained("bpe", "nmt_nfkc", False, False))
    table: bytes = message.normalizer_spec.precompiled_charsmap
    return table


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    with contextlib.suppress(TokenizerError):
        assert sum(1 for _ in read_message(memoryview(data))) <= len(data)
    with contextlib.suppress(TokenizerError):
        list(CharsMap(data).characters())
        normalizers_of(data, "nfkc")
