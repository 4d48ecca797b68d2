import unicodedata
from itertools import accumulate, pairwise
from typing import cast

import pytest
import regex
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from malmoi.core.errors import TokenizerError
from malmoi.testing.tokenizer import ByteTokenizer
from malmoi.text.stream import MAX_HELD, DecodeStream
from malmoi.text.tokenizer import Tokenizer

BYTES = ByteTokenizer()
SYLLABLES = [chr(point) for point in range(ord("가"), ord("힣") + 1)]
COMPATIBILITY_JAMO = [chr(point) for point in range(0x3131, 0x318F)]
OLD_HANGUL = ["ᄒᆞᆫ", "나랏말ᄊᆞ미", "ᄫᅡᆼ", "ᅌᅵ", "ꥠᅡ", "ᄀힰퟋ", "ᄭᅮᆷ", "ᄒᆞᆫ〮"]
EMOJI = [
    "😀",
    "👨‍👩‍👧‍👦",
    "👍🏽",
    "❤️",
    "❤️‍🔥",
    "🏳️‍🌈",
    "🇰🇷",
    "🇰🇷🇯🇵",
    "🧑🏻‍❤️‍💋‍🧑🏿",
    "🏴\U000e0067\U000e0062\U000e007f",
    "☃︎",
]
PLAIN = ["한국어", "a", " ", "\n", "é", "漢", "ㅋㅋ", "1", "<|im_end|>", "가"]


class Chunks(Tokenizer):
    """A tokenizer whose tokens are the given byte strings: what a token may be at the very worst."""

    def __init__(self, chunks: list[bytes]) -> None:
        self.special_tokens = {}
        self.chunks = chunks

    def token_bytes(self, token_id: int, *, at_start: bool = False) -> bytes:
        return self.chunks[token_id]


def stream(tokenizer: Tokenizer, ids: list[int], *, skip_special: bool = True) -> list[str]:
    decoding = DecodeStream(tokenizer, skip_special=skip_special)
    return [decoding.push(token_id) for token_id in ids] + [decoding.finish()]


def stream_chunks(chunks: list[bytes]) -> list[str]:
    return stream(Chunks(chunks), list(range(len(chunks))))


def ends(pieces: list[str]) -> set[int]:
    """After which characters of the text a piece ends."""
    return {0, *accumulate(map(len, pieces))}


def graphemes(text: str) -> list[str]:
    return cast("list[str]", regex.findall(r"\X", text))


@st.composite
def chunked(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """A text of whole graphemes, cut into tokens at any bytes."""
    wholes = SYLLABLES[::97] + [unicodedata.normalize("NFD", s) for s in SYLLABLES[::89]]
    whole = st.sampled_from(wholes + COMPATIBILITY_JAMO[::9]) | st.sampled_from(OLD_HANGUL + EMOJI + PLAIN)
    text = "".join(draw(st.lists(whole, max_size=12)))
    data = text.encode()
    cuts = sorted(draw(st.sets(st.integers(0, len(data)))) | {0, len(data)})
    return text, [data[a:b] for a, b in pairwise(cuts)]


# Every law of the concatenation, over every kind of tokenizer.


@given(st.lists(st.integers(0, 258)), st.booleans())
def test_the_pieces_are_what_decode_gives(ids: list[int], skip: bool) -> None:
    assert "".join(stream(BYTES, ids, skip_special=skip)) == BYTES.decode(ids, skip_special=skip)


@settings(max_examples=30)
@given(data=st.data(), skip=st.booleans())
def test_the_pieces_are_what_decode_gives_for_imported_tokenizers(
    imported: tuple[Tokenizer, tokenizers.Tokenizer], data: st.DataObject, skip: bool
) -> None:
    tokenizer, _ = imported
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1)))
    assert "".join(stream(tokenizer, ids, skip_special=skip)) == tokenizer.decode(ids, skip_special=skip)


@given(st.binary())
def test_bytes_that_are_no_character_come_out_as_many_as_decode_gives(data: bytes) -> None:
    pieces = stream(BYTES, [3 + byte for byte in data])
    assert "".join(pieces) == data.decode("utf-8", "replace")


# Never half of anything.


@given(chunked())
def test_decode_stream_never_ends_a_piece_inside_a_grapheme(made: tuple[str, list[bytes]]) -> None:
    text, chunks = made
    pieces = stream_chunks(chunks)
    assert "".join(pieces) == text
    assert "\ufffd" not in text
    assert ends(pieces) <= ends(graphemes(text))


def test_every_syllable_comes_out_whole_and_with_its_last_byte() -> None:
    decoding = DecodeStream(BYTES)
    for syllable in SYLLABLES:
        assert [decoding.push(i) for i in BYTES.encode(syllable)] == ["", "", syllable]


def test_every_syllable_of_conjoining_jamo_comes_out_whole() -> None:
    data = unicodedata.normalize("NFD", "".join(SYLLABLES)).encode()
    pieces = [piece for piece in stream(BYTES, [3 + byte for byte in data]) if piece]
    assert [unicodedata.normalize("NFC", piece) for piece in pieces] == SYLLABLES


def test_every_syllable_survives_every_cut_of_its_bytes() -> None:
    for form in ("NFC", "NFD"):
        for syllable in SYLLABLES[::7]:
            data = unicodedata.normalize(form, syllable).encode()
            for cut in range(1, len(data)):
                pieces = [piece for piece in stream_chunks([data[:cut], data[cut:]]) if piece]
                assert pieces == [data.decode()]


def test_a_compatibility_jamo_comes_out_at_once() -> None:
    decoding = DecodeStream(BYTES)
    for jamo in COMPATIBILITY_JAMO:
        assert [decoding.push(i) for i in BYTES.encode(jamo)] == ["", "", jamo]


@pytest.mark.parametrize("text", OLD_HANGUL + EMOJI)
def test_old_hangul_and_emoji_come_out_whole(text: str) -> None:
    assert ends(stream(BYTES, BYTES.encode(text))) <= ends(graphemes(text))
    *pieces, last = stream(BYTES, BYTES.encode(text + "다"))
    assert ("".join(pieces), last) == (text + "다", "")


# What is held back, and for how long.


@pytest.mark.parametrize("text", ["ᄀ" * 500, "ᄀ" + "ᅡ" * 500, "👨" + "\u200d" * 500, "😀" + "\ufe0f" * 500])
def test_no_more_than_a_grapheme_is_ever_held_back(text: str) -> None:
    decoding, held = DecodeStream(BYTES), 0
    for token_id in BYTES.encode(text):
        held += 1 - len(decoding.push(token_id).encode())
        assert held <= 4 * MAX_HELD + 3
    decoding.finish()


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], max_codepoint=0x10FF), min_size=1))
def test_text_of_other_scripts_never_waits(text: str) -> None:
    pieces = stream_chunks([character.encode() for character in text])
    assert pieces == [*text, ""]


def test_skipping_special_tokens_leaves_the_start_of_the_text_at_the_start() -> None:
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<s>": 0, "▁한": 1, "▁글": 2}, unk_token="<s>"))
    made.decoder = tokenizers.decoders.Metaspace()
    made.add_special_tokens(["<s>"])
    tokenizer = Tokenizer(made.to_str())
    assert stream(tokenizer, [0, 1, 0, 2]) == ["", "한", "", " 글", ""]
    assert stream(tokenizer, [0, 1], skip_special=False) == ["<s>", " 한", ""]


def test_finish_begins_a_new_text() -> None:
    decoding = DecodeStream(BYTES)
    half, whole = BYTES.encode("한")[:2], BYTES.encode("글")
    assert ([decoding.push(i) for i in half], decoding.finish()) == (["", ""], "\ufffd")
    assert ([decoding.push(i) for i in whole], decoding.finish()) == (["", "", "글"], "")


def test_an_id_outside_of_the_vocabulary_is_refused_and_loses_nothing() -> None:
    decoding = DecodeStream(BYTES)
    first, second, third = BYTES.encode("한")
    decoding.push(first), decoding.push(second)
    with pytest.raises(TokenizerError, match="id 999 is outside"):
        decoding.push(999)
    assert decoding.push(third) == "한"
