"""Samples -> what an audio encoder is given: log-mel spectrograms of 30 seconds, and where the sound is in them.

Place in the flow: `load_sound` -> `SoundProcessor` -> `model(tokens, audio=...)`. How many tokens of the prompt a
sound takes is the family's business. Read next: `mel.py`; `sound_keys.py`, how a checkpoint writes a processor down.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from malmoi.core.errors import ConfigError, MediaError
from malmoi.media.mel import log_mel


@dataclass(frozen=True)
class SoundFeatures:
    """A sound in chunks of equal length, the last one filled up with silence; `mask` says which frames are sound."""

    mel: Float32[np.ndarray, "chunks mels frames"]
    mask: Bool[np.ndarray, "chunks frames"]


@dataclass(frozen=True, kw_only=True)
class SoundProcessor:
    """The preprocessing of Whisper (arXiv:2212.04356) and Qwen2-Audio (arXiv:2407.10759).

    Our difference from `transformers`: a sound longer than `chunk_seconds` becomes several chunks, each computed as
    if it were alone, where the reference throws the rest away. A caller who can take only one asks for the count.

    >>> processor = SoundProcessor(num_mels=128)
    >>> features = processor(np.zeros(31 * 16_000, np.float32))    # 31 seconds: one chunk and a second of the next
    >>> features.mel.shape, features.mask.sum(axis=1).tolist()
    ((2, 128, 3000), [3000, 100])

    Raises ConfigError on a number below 1.
    """

    num_mels: int = 80
    sample_rate: int = 16_000
    chunk_seconds: int = 30
    fft_size: int = 400
    hop_length: int = 160

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ConfigError(f"{name}={value} of a sound processor is below 1. Correct it.")

    @property
    def chunk_samples(self) -> int:
        """Samples of a chunk.

        >>> SoundProcessor().chunk_samples
        480000
        """
        return self.chunk_seconds * self.sample_rate

    @property
    def num_frames(self) -> int:
        """Frames of a chunk.

        >>> SoundProcessor().num_frames
        3000
        """
        return self.chunk_samples // self.hop_length

    def frames_of_sound(self, num_samples: int) -> list[int]:
        """How many frames of each chunk are sound, known before anything is computed.

        >>> SoundProcessor().frames_of_sound(31 * 16_000)
        [3000, 100]
        """
        num_full, rest = divmod(num_samples, self.chunk_samples)
        of_rest = [min(self.num_frames, -(-rest // self.hop_length))] if rest else []
        return [self.num_frames] * num_full + of_rest

    def __call__(self, sound: Float32[np.ndarray, " samples"]) -> SoundFeatures:
        """The features of `sound`, which must have `sample_rate`. Raises MediaError if it has no samples."""
        if len(sound) == 0:
            raise MediaError("a sound without samples has no features. Give one that lasts.")
        num_chunks = -(-len(sound) // self.chunk_samples)
        samples = np.zeros((num_chunks, self.chunk_samples), np.float32)
        samples.flat[: len(sound)] = sound
        lengths = np.array(self.frames_of_sound(len(sound)))
        mel = [
            log_mel(
                chunk,
                sample_rate=self.sample_rate,
                num_mels=self.num_mels,
                fft_size=self.fft_size,
                hop_length=self.hop_length,
            )
            for chunk in samples
        ]
        return SoundFeatures(np.stack(mel), np.arange(self.num_frames) < lengths[:, None])
