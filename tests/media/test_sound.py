"""WAV, FLAC and OGG become one channel of samples at the rate asked for; everything else is a MediaError."""

import base64
import io
import struct
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from malmoi.core.errors import MediaError
from malmoi.media import load_sound
from malmoi.media.sound import MAX_SAMPLES

RATE = 16_000
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE // 2) / RATE)


def encode(samples: np.ndarray, rate: int = RATE, format: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def wav_of_the_standard_library(samples: np.ndarray, rate: int = RATE) -> bytes:
    """16-bit WAV by Python's own module: a writer that is not the library that we read with."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, rate, 0, "NONE", ""))
        writer.writeframes((samples * 32768).astype("<i2").tobytes())
    return file.getvalue()


KINDS = {  # with how far a sample may be from what was written: half a step, and what a lossy code does
    "WAV/PCM_U8": 1 / 128, "WAV/PCM_16": 1 / 32768, "WAV/PCM_24": 1e-6, "WAV/PCM_32": 1e-7, "WAV/FLOAT": 1e-7,
    "WAV/DOUBLE": 1e-7, "WAV/ALAW": 0.02, "WAV/ULAW": 0.02, "WAVEX/PCM_16": 1 / 32768, "FLAC/PCM_16": 1 / 32768,
    "FLAC/PCM_24": 1e-6, "OGG/VORBIS": 0.05, "OGG/OPUS": 0.05,
}  # fmt: skip
FILES = {kind: encode(TONE, RATE, *kind.split("/")) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_samples_come_back_from_every_format(kind: str) -> None:
    found = load_sound(FILES[kind])
    assert found.dtype == np.float32
    assert found.shape == TONE.shape
    middle = slice(1000, -1000)  # a lossy code is worse at the ends
    assert np.abs(found - TONE)[middle].max() <= KINDS[kind]


def test_sixteen_bits_are_read_as_the_standard_library_wrote_them() -> None:
    expected = (TONE * 32768).astype("<i2") / np.float32(32768)
    assert np.array_equal(load_sound(wav_of_the_standard_library(TONE)), expected)


@pytest.mark.parametrize("kind", ["WAV/PCM_16", "FLAC/PCM_16", "OGG/VORBIS"])
def test_a_sound_is_the_same_from_a_path_bytes_and_a_url(tmp_path: Path, kind: str) -> None:
    (tmp_path / "sound").write_bytes(FILES[kind])
    url = f"data:audio/wav;base64,{base64.b64encode(FILES[kind]).decode()}"
    for source in (tmp_path / "sound", str(tmp_path / "sound"), url):
        assert np.array_equal(load_sound(source), load_sound(FILES[kind]))


@pytest.mark.parametrize("num_channels", [2, 5, 8])
def test_channels_are_averaged(num_channels: int) -> None:
    channels = np.random.default_rng(0).uniform(-1, 1, (3000, num_channels)).astype(np.float32)
    found = load_sound(encode(channels, subtype="FLOAT"))
    assert np.abs(found - channels.mean(axis=1)).max() < 1e-6


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("target", [16_000, 24_000])
def test_a_sound_lasts_as_long_at_the_rate_asked_for(rate: int, target: int) -> None:
    found = load_sound(encode(np.zeros(rate), rate), sample_rate=target)
    assert len(found) == target
    assert not found.any()


def test_floats_beyond_one_are_not_clipped() -> None:
    assert load_sound(encode(np.array([-3.0, 2.0]), subtype="FLOAT")).tolist() == [-3.0, 2.0]


def test_a_sound_of_several_pieces_is_whole() -> None:
    """It is decoded in pieces of a million numbers."""
    ramp = np.arange(1_200_000) / 2_000_000
    assert np.abs(load_sound(encode(ramp, subtype="FLOAT")) - ramp).max() < 1e-6


# ---- bad input


@pytest.mark.parametrize("data", [b"ID3\x04mp3", b"FORM\0\0\0\0AIFF", b"RIFF\0\0\0\0AVI ", b"text", b"\0"])
def test_other_formats_are_refused_and_not_quoted(data: bytes) -> None:
    with pytest.raises(
        MediaError, match=r"is no WAV, FLAC or OGG sound. Convert it, for example: ffmpeg -i IN out.flac"
    ):
        load_sound(data)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.999])
def test_a_sound_that_is_cut_off_is_refused_and_never_heard_as_a_shorter_one(kind: str, share: float) -> None:
    with pytest.raises(MediaError):
        load_sound(FILES[kind][: int(len(FILES[kind]) * share)])


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_without_its_last_pages_is_refused(subtype: str) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(20 * RATE)
    file = encode(noise, RATE, "OGG", subtype)
    assert len(load_sound(file)) == len(noise)
    pages = [i for i in range(len(file)) if file[i : i + 4] == b"OggS"]
    for cut in (*pages[-3:], len(file) - 1):
        with pytest.raises(MediaError, match="is cut off after 1"):
            load_sound(file[:cut])


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_that_was_streamed_may_not_know_its_length(size: int) -> None:
    file = bytearray(FILES["WAV/PCM_16"])
    start = file.index(b"data")
    file[4:8] = file[start + 4 : start + 8] = struct.pack("<I", size)
    assert len(load_sound(bytes(file))) == len(TONE)


def test_a_flac_that_was_streamed_is_refused_with_the_remedy() -> None:
    file = bytearray(FILES["FLAC/PCM_16"])
    file[21] &= 0xF0  # the number of samples, 36 bits of STREAMINFO
    file[22:26] = bytes(4)
    with pytest.raises(MediaError, match="does not say how long it is. Write it again: ffmpeg"):
        load_sound(bytes(file))


@pytest.mark.parametrize("format", ["WAV", "FLAC"])
def test_a_sound_without_samples_is_refused(format: str) -> None:
    with pytest.raises(MediaError):
        load_sound(encode(np.zeros(0), format=format))
    with pytest.raises(MediaError, match="holds no samples. Give a sound that lasts"):
        load_sound(encode(np.zeros(0)))


@pytest.mark.parametrize("bad", [[np.nan, 0], [np.inf, 0], [np.inf, -np.inf], [1e38, 1e38], [2e12, 2e12]])
def test_samples_that_are_no_numbers_are_refused(bad: list[float]) -> None:
    with pytest.raises(MediaError, match=r"has samples that are NaN, infinite or above 1e\+12"):
        load_sound(encode(np.array([[0, 0], bad]), subtype="FLOAT"))


def test_limits_are_exact_and_named() -> None:
    file = FILES["WAV/PCM_16"]
    assert len(load_sound(file, max_seconds=0.5, max_bytes=len(file))) == RATE // 2
    with pytest.raises(
        MediaError, match=r"lasts 0\.5 s, and 0\.4 s are allowed\. Cut it, or raise max_seconds"
    ):
        load_sound(file, max_seconds=0.4)
    with pytest.raises(MediaError, match="raise max_bytes"):
        load_sound(file, max_bytes=len(file) - 1)


def test_hours_of_silence_in_a_small_file_are_refused_before_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = encode(np.zeros(RATE * 1801, np.int16), format="FLAC")
    assert len(file) < 250_000
    monkeypatch.setattr(soundfile.SoundFile, "blocks", None)
    with pytest.raises(MediaError, match=r"lasts 1,801\.0 s, and 1,800\.0 s are allowed"):
        load_sound(file)


def test_many_samples_in_a_short_sound_are_refused_before_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert MAX_SAMPLES == 1800 * 48_000
    file = bytearray(encode(np.zeros((100, 2), np.int16), 384_000, "FLAC"))
    assert len(load_sound(bytes(file), max_samples=100)) == 5  # 100 of each of two channels
    with pytest.raises(
        MediaError, match=r"has 100 samples a channel, 384,000 a second, and 99 are allowed\. Write it"
    ):
        load_sound(bytes(file), max_samples=99)
    monkeypatch.setattr(soundfile.SoundFile, "blocks", None)
    file[22:26] = struct.pack(">I", MAX_SAMPLES + 1)  # the last bits of the number in STREAMINFO: 225 s
    with pytest.raises(
        MediaError, match="has 86,400,001 samples a channel, 384,000 a second, and 86,400,000 are"
    ):
        load_sound(bytes(file))


@pytest.mark.parametrize("rate", [1, 999, 384_001, 2**31 - 1])
def test_a_rate_that_nobody_records_at_is_refused(rate: int) -> None:
    with pytest.raises(MediaError, match=f"claims {rate:,} samples a second. Read are 1,000 to 384,000"):
        load_sound(encode(np.zeros(10), rate))


@given(st.binary(max_size=200))
def test_random_bytes_are_a_sound_or_a_media_error(data: bytes) -> None:
    for start in (
        b"",
        b"fLaC",
        b"OggS",
        b"RIFF\x40\0\0\0WAVE",
        FILES["WAV/PCM_16"][:44],
        FILES["FLAC/PCM_16"][:44],
    ):
        try:
            load_sound(start + data)
        except MediaError:
            continue


@given(st.sampled_from(list(FILES.values())), st.data())
def test_a_damaged_sound_is_a_sound_or_a_media_error(file: bytes, data: st.DataObject) -> None:
    damaged = bytearray(file)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, min(len(file), 200) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert np.isfinite(load_sound(bytes(damaged), max_seconds=10)).all()
    except MediaError:
        return


def test_without_soundfile_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(MediaError, match=r"pip install 'malmoi\[media\]'"):
        load_sound(FILES["WAV/PCM_16"])
