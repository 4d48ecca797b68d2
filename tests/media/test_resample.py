"""A new rate is the same sound: as long, as loud, without tones that were not there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from malmoi.media.resample import resample

RATES = [8000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000]
TARGET = 16_000


def sine(frequency: float, rate: int, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate).astype(np.float32)


def inner(sound: np.ndarray) -> np.ndarray:
    """Without the ends, where the silence around the sound is heard."""
    return sound[len(sound) // 5 : -len(sound) // 5]


@pytest.mark.parametrize("rate", RATES)
def test_a_sine_stays_the_same_sine(rate: int) -> None:
    for frequency in np.linspace(20, 0.92 * min(rate, TARGET) / 2, 12):
        found = resample(sine(frequency, rate), source_rate=rate, target_rate=TARGET)
        assert found.dtype == np.float32
        expected = sine(frequency, TARGET, len(found) / TARGET)[: len(found)]
        assert np.abs(inner(found) - inner(expected)).max() < 2e-4, frequency


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate > TARGET])
def test_what_the_target_cannot_hold_is_80_db_down(rate: int) -> None:
    for frequency in np.linspace(TARGET / 2, rate / 2 - 50, 25):
        found = resample(sine(frequency, rate), source_rate=rate, target_rate=TARGET)
        assert np.abs(inner(found)).max() < 1e-4, frequency


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate < TARGET])
def test_no_tone_appears_above_what_the_source_could_hold(rate: int) -> None:
    for frequency in np.linspace(200, 0.92 * rate / 2, 8):
        found = inner(resample(sine(frequency, rate), source_rate=rate, target_rate=TARGET))
        spectrum = np.abs(np.fft.rfft(found * np.blackman(len(found))))
        above = np.fft.rfftfreq(len(found), 1 / TARGET) > rate / 2 + 50
        assert spectrum[above].max() < 1e-4 * spectrum.max(), frequency


@given(st.integers(1, 3000), st.integers(1, 300), st.integers(1, 300))
def test_there_is_a_sample_for_every_time_inside_the_sound(length: int, source: int, target: int) -> None:
    found = resample(np.ones(length, np.float32), source_rate=source, target_rate=target)
    assert len(found) == sum(1 for k in range(length * target // source + 2) if k * source < length * target)


@pytest.mark.parametrize("rate", RATES)
def test_a_constant_stays_what_it_is_and_silence_stays_silent(rate: int) -> None:
    found = resample(np.full(rate // 2, 0.25, np.float32), source_rate=rate, target_rate=TARGET)
    assert np.abs(inner(found) - 0.25).max() < 1e-6
    assert not resample(np.zeros(100, np.float32), source_rate=rate, target_rate=TARGET).any()


def test_nothing_is_delayed() -> None:
    click = np.zeros(4410, np.float32)
    click[1323] = 1.0  # at 30 ms
    assert np.abs(resample(click, source_rate=44_100, target_rate=TARGET)).argmax() == 480


def test_the_same_rate_is_the_same_array() -> None:
    sound = sine(440, TARGET)
    assert resample(sound, source_rate=TARGET, target_rate=TARGET) is sound


def test_a_ratio_without_a_common_divisor_is_resampled_too() -> None:
    found = resample(sine(1000, 44_101), source_rate=44_101, target_rate=TARGET)
    assert np.abs(inner(found) - inner(sine(1000, TARGET, len(found) / TARGET)[: len(found)])).max() < 2e-4
