"""A sound at one sample rate -> the same sound at another.

Between two samples a sound without higher frequencies is a sum of sincs, so a new sample is a weighted sum of the
old ones around it. The weights depend only on where between two old samples it falls, its phase, and a ratio of
whole numbers has few phases: each is one product of a matrix and its weights. Read next: `sound.py`, who calls this.
"""

from math import ceil, gcd

import numpy as np
from jaxtyping import Float32

# A sinc of 64 lobes to each side under a Kaiser window that stops at -80 dB. Kaiser's formulas give how steeply:
# between what passes and what is stopped lie 7.8 % of the band, and the end of those lies at the Nyquist frequency.
_LOBES = 64
_STOP_DB = 80.0
_BETA = 0.1102 * (_STOP_DB - 8.7)
_TRANSITION = (_STOP_DB - 7.95) / (2.285 * np.pi * 2 * _LOBES)


def resample(
    sound: Float32[np.ndarray, " samples"], *, source_rate: int, target_rate: int
) -> Float32[np.ndarray, " resampled"]:
    """`sound` at `target_rate` samples a second, by a windowed sinc; before and after it there is silence.

    Sample k is the sound at the time k / target_rate, so nothing is delayed, and there is one for each such time
    before the end. Below 0.92 of the lower of the two Nyquist frequencies the sound is as it was; what is above it
    and could come back as another frequency is 80 dB down.

    >>> constant = np.ones(44_100, np.float32)
    >>> resampled = resample(constant, source_rate=44_100, target_rate=16_000)
    >>> len(resampled), round(float(resampled[8000]), 6)
    (16000, 1.0)
    """
    if source_rate == target_rate:
        return sound
    divisor = gcd(source_rate, target_rate)
    up, down = target_rate // divisor, source_rate // divisor
    band = min(1.0, up / down)  # of the source's Nyquist frequency: all of it, or what the target can hold
    half = ceil(_LOBES / band)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(sound, (half - 1, half)), 2 * half)
    resampled = np.empty(-(-len(sound) * up // down), np.float32)
    for phase in range(min(up, len(resampled))):
        start, rest = divmod(phase * down, up)
        resampled[phase::up] = windows[start::down] @ _weights(rest / up, half, band)
    return resampled


def _weights(phase: float, half: int, band: float) -> Float32[np.ndarray, " taps"]:
    """The weights of the `2 * half` samples around a time that is `phase` of a sample after the middle one."""
    distance = np.arange(1 - half, 1 + half) - phase
    cutoff = band * (1 - _TRANSITION / 2)
    window = np.i0(_BETA * np.sqrt(np.maximum(0.0, 1 - (distance / half) ** 2)))
    weights = np.sinc(cutoff * distance) * window
    normalised: np.ndarray = weights / weights.sum()  # a constant stays what it is
    return normalised.astype(np.float32)
