"""A sound processor and the keys of its `preprocessor_config.json`, both ways and strictly.

The twin of `image_keys.py`. Read next: `huggingface.py`, which finds the file.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from malmoi.core.config import from_mapping
from malmoi.core.errors import ConfigError
from malmoi.media.sound_processor import SoundProcessor

# Our mask always comes along, and the filters follow from the other keys (`transformers` computes them anew, too).
_NEUTRAL = {"processor_class", "return_attention_mask", "mel_filters"}


@dataclass(frozen=True, kw_only=True)
class _Keys:
    feature_extractor_type: Literal["WhisperFeatureExtractor"]
    feature_size: int = 80
    sampling_rate: int = 16_000
    chunk_length: int = 30
    n_fft: int = 400
    hop_length: int = 160
    n_samples: int | None = None
    nb_max_frames: int | None = None
    padding_value: float = 0.0
    padding_side: Literal["right"] = "right"
    dither: float = 0.0


def read_sound_processor(keys: Mapping[str, Any], *, where: str) -> SoundProcessor:
    """The processor that the keys of a Whisper or Qwen2-Audio file describe. Null counts as absent.

    >>> read_sound_processor({"feature_extractor_type": "WhisperFeatureExtractor", "dither": 0.1}, where="the file")
    Traceback (most recent call last):
        ...
    malmoi.core.errors.ConfigError: the file: dither=0.1 is not supported. Supported: 0.0. ...

    Raises:
        ConfigError: another class, an unknown key, or a value that asks for what is not computed here.
    """
    given = {key: value for key, value in keys.items() if value is not None and key not in _NEUTRAL}
    read = from_mapping(_Keys, given, where=where)
    try:
        processor = SoundProcessor(
            num_mels=read.feature_size,
            sample_rate=read.sampling_rate,
            chunk_seconds=read.chunk_length,
            fft_size=read.n_fft,
            hop_length=read.hop_length,
        )
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    expected = {
        "n_samples": processor.chunk_samples,
        "nb_max_frames": processor.num_frames,
        "padding_value": 0.0,
        "dither": 0.0,
    }
    for key, value in expected.items():
        if getattr(read, key) not in (value, None):
            raise ConfigError(
                f"{where}: {key}={getattr(read, key)} is not supported. Supported: {value}. Computing with another "
                "value would give wrong answers."
            )
    return processor


def write_sound_processor(processor: SoundProcessor) -> dict[str, Any]:
    """`read_sound_processor` run backwards."""
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": processor.num_mels,
        "sampling_rate": processor.sample_rate,
        "chunk_length": processor.chunk_seconds,
        "n_fft": processor.fft_size,
        "hop_length": processor.hop_length,
        "n_samples": processor.chunk_samples,
        "nb_max_frames": processor.num_frames,
        "padding_value": 0.0,
        "padding_side": "right",
        "dither": 0.0,
        "return_attention_mask": True,
    }
