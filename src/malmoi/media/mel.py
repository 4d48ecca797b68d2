"""A mono sound -> its log-mel spectrogram, as Whisper hears it.

Frames are a strided view and one call of a real Fourier transform; nothing loops. Place in the flow: `load_sound` ->
`SoundProcessor`, which pads and calls this -> `model(tokens, audio=...)`. Read next: `sound_processor.py`.
"""

from functools import cache

import numpy as np
from jaxtyping import Float32, Float64

_FLOOR = 1e-10  # of power: silence has a logarithm


def log_mel(
    sound: Float32[np.ndarray, " samples"], *, sample_rate: int, num_mels: int, fft_size: int, hop_length: int
) -> Float32[np.ndarray, "mels frames"]:
    """Whisper's features: log10 of the power in each mel band (Radford et al. 2022, arXiv:2212.04356, section 2.2).

    One frame for every `hop_length` samples, with a periodic Hann window of `fft_size` samples around it; at both
    ends the sound is mirrored. What is more than 8 (80 dB) below the loudest becomes that, and then `(x + 4) / 4`.

    Our difference from `transformers`, which computes it with numpy or with torch: float64 until the last line.
    `tests/media/test_mel.py` holds us to 1e-6 of the former and 2e-4 of the latter, whose float32 shows in pure tones.

    >>> tone = np.sin(2 * np.pi * 1000 * np.arange(1600) / 16_000).astype(np.float32)
    >>> mel = log_mel(tone, sample_rate=16_000, num_mels=80, fft_size=400, hop_length=160)
    >>> mel.shape, mel[:, 5].argmax().item()    # 1,000 Hz are 15 mels, a band is 0.559 mels: the 27th
    ((80, 10), 26)
    """
    half = fft_size // 2
    padded = np.pad(sound, half, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, fft_size)[::hop_length]
    window = np.hanning(fft_size + 1)[:-1]
    power = np.abs(np.fft.rfft(frames[: len(sound) // hop_length] * window)) ** 2
    bands = mel_filters(num_mels, fft_size, sample_rate).T @ power.T
    logs = np.log10(np.maximum(bands, _FLOOR))
    scaled: np.ndarray = (np.maximum(logs, logs.max() - 8) + 4) / 4
    return scaled.astype(np.float32)


@cache
def mel_filters(num_mels: int, fft_size: int, sample_rate: int) -> Float64[np.ndarray, "bins mels"]:
    """Triangles over the bins of a Fourier transform, evenly spaced in mels from 0 Hz to 8 kHz, of equal area.

    Slaney's mel scale (Auditory Toolbox, 1998): a line up to 1 kHz, a logarithm above.

    >>> mel_filters(80, 400, 16_000).shape
    (201, 80)
    """
    step = np.log(6.4) / 27  # a mel more is exp(step) times the frequency, above 15 mels or 1,000 Hz
    mels = np.linspace(0.0, 15 + np.log(8) / step, num_mels + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))
    bins = np.linspace(0, sample_rate // 2, 1 + fft_size // 2)[:, None]
    rising = (bins - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins) / np.diff(edges)[1:]
    filters = np.maximum(0.0, np.minimum(rising, falling)) * (2 / (edges[2:] - edges[:-2]))
    filters.flags.writeable = False  # the cache hands out the same array again
    return filters
