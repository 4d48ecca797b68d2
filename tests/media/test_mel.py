"""Spectrograms equal those of `WhisperFeatureExtractor`, whichever of its two ways it computes them."""

import numpy as np
import pytest
from transformers import WhisperFeatureExtractor
from transformers.audio_utils import mel_filter_bank

from malmoi.core.errors import ConfigError, MediaError
from malmoi.media import SoundProcessor
from malmoi.media.mel import mel_filters

RATE = 16_000
TIMES = np.arange(7 * RATE) / RATE
NOISE = np.random.default_rng(0).standard_normal(7 * RATE)
SOUNDS = {
    "noise": 0.1 * NOISE,
    "whisper": 1e-5 * NOISE,
    "tone": np.sin(2 * np.pi * 440 * TIMES),
    "chirp": np.sin(2 * np.pi * 500 * TIMES**2),
    "word": np.exp(-((TIMES - 1) ** 2) * 20) * NOISE,
    "silence": np.zeros(RATE),
    "one-sample": np.ones(1),
    "not-a-whole-frame": NOISE[:4001],
}


@pytest.mark.parametrize("num_mels", [80, 128])
@pytest.mark.parametrize("name", SOUNDS)
def test_spectrogram_and_mask_are_those_of_the_reference(name: str, num_mels: int) -> None:
    """1e-6 of its way with numpy; its way with torch is in float32 and differs from both, most for a pure tone."""
    sound = SOUNDS[name].astype(np.float32)
    extractor = WhisperFeatureExtractor(feature_size=num_mels, chunk_length=10)
    features = SoundProcessor(num_mels=num_mels, chunk_seconds=10)(sound)
    padded = np.pad(sound, (0, 10 * RATE - len(sound)))
    assert np.abs(features.mel - extractor._np_extract_fbank_features([padded], "cpu")).max() < 1e-6
    expected = extractor(sound, sampling_rate=RATE, return_attention_mask=True, return_tensors="np")
    assert features.mel.dtype == expected["input_features"].dtype == np.float32
    assert np.abs(features.mel - expected["input_features"]).max() < 2e-4
    assert np.array_equal(features.mask, expected["attention_mask"].astype(bool))


def test_thirty_seconds_are_three_thousand_frames_of_the_reference() -> None:
    sound = np.resize(SOUNDS["noise"], 30 * RATE).astype(np.float32)
    features = SoundProcessor()(sound)
    expected = WhisperFeatureExtractor()(sound, sampling_rate=RATE, return_tensors="np")["input_features"]
    assert features.mel.shape == expected.shape == (1, 80, 3000)
    assert features.mask.all()
    assert np.abs(features.mel - expected).max() < 1e-4


@pytest.mark.parametrize("num_mels", [40, 80, 128])
def test_mel_filters_are_slaneys(num_mels: int) -> None:
    expected = mel_filter_bank(201, num_mels, 0.0, 8000.0, RATE, norm="slaney", mel_scale="slaney")
    assert np.abs(mel_filters(num_mels, 400, RATE) - expected).max() < 1e-12


@pytest.mark.parametrize("chunk_seconds", [1, 2])
def test_a_longer_sound_is_chunks_and_each_is_as_if_it_were_alone(chunk_seconds: int) -> None:
    """The reference throws away what does not fit."""
    processor = SoundProcessor(chunk_seconds=chunk_seconds)
    sound = SOUNDS["word"].astype(np.float32)[: 5 * RATE + 7]
    features = processor(sound)
    pieces = [sound[i : i + processor.chunk_samples] for i in range(0, len(sound), processor.chunk_samples)]
    assert len(features.mel) == len(pieces)
    for mel, mask, piece in zip(features.mel, features.mask, pieces, strict=True):
        alone = processor(piece)
        assert np.array_equal(mel, alone.mel[0])
        assert np.array_equal(mask, alone.mask[0])
    assert features.mask.sum() == -(-len(sound) // 160)


def test_a_chunk_that_is_no_whole_number_of_frames_has_the_mask_of_the_reference() -> None:
    options = {"hop_length": 7, "n_fft": 32, "chunk_length": 1}
    extractor = WhisperFeatureExtractor(sampling_rate=RATE, feature_size=8, **options)
    sound = SOUNDS["noise"].astype(np.float32)[:9999]
    features = SoundProcessor(num_mels=8, hop_length=7, fft_size=32, chunk_seconds=1)(sound)
    expected = extractor(sound, sampling_rate=RATE, return_attention_mask=True, return_tensors="np")
    assert np.abs(features.mel - expected["input_features"]).max() < 1e-4
    assert np.array_equal(features.mask, expected["attention_mask"].astype(bool))


def test_a_sound_without_samples_is_refused() -> None:
    with pytest.raises(MediaError, match="without samples"):
        SoundProcessor()(np.zeros(0, np.float32))


@pytest.mark.parametrize("name", ["num_mels", "sample_rate", "chunk_seconds", "fft_size", "hop_length"])
def test_numbers_without_sense_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}=0 of a sound processor is below 1"):
        SoundProcessor(**{name: 0})
